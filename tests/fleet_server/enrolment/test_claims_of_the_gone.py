"""What a claim is worth when another came first, when its maker has left, and who the audit says it was."""

from typing import Any

import msgspec
import pytest

from fleet_server.audit import service as audit
from fleet_server.context import Context
from fleet_server.database import Database
from fleet_server.enrolment import service as enrolment
from fleet_server.errors import ForbiddenError

DAY_S = 86_400.0


def claim(server: Context, *, who: str = "ada", accept: bool = True) -> enrolment.NewClaim:
    with server.database.write() as session:
        terms = enrolment.ClaimTerms(accept=accept)
        return enrolment.make_claims(session, count=1, terms=terms, ttl_s=3600, who=who, now_s=server.clock())[0]


def enrol(server: Context, issuer: Any, board: Any, token: str, origin: str = "192.0.2.7") -> enrolment.Outcome:
    with server.database.write() as session:
        return enrolment.enrol(session, board.request(token), issuer, origin=origin, now_s=server.clock())


def test_the_claim_that_waited_still_answers_after_another_let_the_board_in(
    server: Context, issuer: Any, device_door: Any, new_board: Any
) -> None:
    """A board waits with one claim, somebody gives it another, and its first question was still on its way: no 500."""
    board, first, second = new_board(), claim(server, accept=False), claim(server)
    assert enrol(server, issuer, board, first.token).status == "pending"
    let_in = enrol(server, issuer, board, second.token)
    again = device_door.client.post("/device/v1/enrol", json={
        "v": 1, "claim": first.token, "csr_pem": board.csr_pem, "facts": msgspec.to_builtins(board.request("").facts),
    })  # fmt: skip
    assert (again.status_code, again.json["device"]) == (200, let_in.device_id)
    assert again.json["certificate_pem"] == let_in.certificate_pem


@pytest.mark.parametrize("path", ["api/v1/accounts/{}/disable", "api/v1/accounts/{}", "people/{}/disable", "people/{}/remove"])
def test_what_somebody_gave_out_ends_when_he_goes(
    server: Context, issuer: Any, sign_in: Any, device_door: Any, new_board: Any, path: str
) -> None:
    """He is let go with unused claims in his drawer: they open nothing, the audit says so, and what others made goes on."""
    admin, gone = sign_in("admin"), sign_in("operator")
    name = gone.get("/api/v1/whoami").json["name"]
    made = gone.post("/api/v1/claims", json={"count": 3}).json["items"]
    mine = admin.post("/api/v1/claims", json={"count": 1}).json["items"][0]
    assert enrol(server, issuer, new_board(), made[0]["token"]).status == "accepted"
    ask = admin.delete if path.startswith("api") and path.endswith("{}") else admin.post
    answer = ask("/" + path.format(name))
    assert answer.status_code < 400, answer.text
    for one in made[1:]:
        with pytest.raises(ForbiddenError, match="ended this claim"):
            enrol(server, issuer, new_board(), one["token"])
    assert enrol(server, issuer, new_board(), mine["token"]).status == "accepted"
    with server.database.read() as session:
        ended = next(entry for entry in audit.entries(session) if entry.what == "claim.end")
    assert ended.after is not None
    assert sorted(ended.after["ids"]) == sorted(one["id"] for one in made[1:])
    assert ended.after["account_left"] == name


def test_the_audit_does_not_say_that_a_claims_maker_stood_beside_the_board(
    server: Context, issuer: Any, new_board: Any
) -> None:
    """A claim is used a week later, at three in the morning, from the board's address: its maker was asleep."""
    made = claim(server)
    enrol(server, issuer, new_board(), made.token, origin="203.0.113.9")
    with server.database.read() as session:
        entry = next(one for one in audit.entries(session) if one.what == "enrolment.accept")
    assert (entry.who, entry.origin) == (f"claim:{made.id}", "203.0.113.9")
    assert entry.after is not None
    assert entry.after["claim_by"] == "ada"


def test_a_certificate_that_is_made_anew_stands_in_the_audit(server: Context, issuer: Any, new_board: Any, clock: Any) -> None:
    """The board lay in a drawer with its answer lost until the certificate had ended: it gets another, and that is written."""
    board, made = new_board(), claim(server)
    first = enrol(server, issuer, board, made.token)
    clock.forward(100 * DAY_S)
    second = enrol(server, issuer, board, made.token, origin="203.0.113.9")
    assert second.certificate_pem != first.certificate_pem
    with server.database.read() as session:
        entry = next(one for one in audit.entries(session) if one.what == "certificate.anew")
    assert (entry.who, entry.origin) == (f"device:{first.device_id}", "203.0.113.9")
    assert entry.before is not None
    assert entry.after is not None
    assert entry.before["serial"] != entry.after["serial"]


def test_nonsense_from_strangers_holds_up_no_writer(
    server: Context, issuer: Any, device_door: Any, new_board: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite has one writer at a time: requests that are none and claims that nobody made are refused without being it."""
    facts = msgspec.to_builtins(new_board().request("").facts)

    def refused(*_: Any) -> None:
        raise AssertionError("it waited for the writer")

    monkeypatch.setattr(Database, "write", refused)
    for body, status in (
        ({"claim": "", "csr_pem": "x"}, 400),
        ({"claim": "rk-a-claim-of-nobody", "csr_pem": new_board().csr_pem}, 403),
    ):
        answer = device_door.client.post("/device/v1/enrol", json={"v": 1, "facts": facts, **body})
        assert answer.status_code == status, answer.text
