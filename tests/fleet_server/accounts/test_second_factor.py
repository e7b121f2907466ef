"""The second factor: codes that work once, recovery codes, a secret that no database yields, and who must have one."""

from dataclasses import replace
from typing import Any

import pyotp
import pytest
from flask.testing import FlaskClient

from fleet_server.accounts import lockout, people, sealing, second_factor, service
from fleet_server.accounts.sign_in import WRONG, Credentials, sign_in
from fleet_server.app import create_operator_app
from fleet_server.audit import service as audit
from fleet_server.context import Context
from fleet_server.errors import ForbiddenError, SettingsError, UnauthenticatedError, UnavailableError

PASSWORD = "correct horse battery"
pytestmark = pytest.mark.usefixtures("cheap_argon2")


@pytest.fixture
def server(sqlite_server: Context) -> Context:
    """One kind of database, but where rows are locked."""
    return sqlite_server


@pytest.fixture
def ada(server: Context) -> Context:
    """A server whose admin is ada."""
    digest = service.hash_password(PASSWORD)
    with server.database.write() as session:
        service.add_operator(session, name="ada", password_hash=digest, role="admin", now_s=server.clock())
    return server


def show(here: Context, code: str = "", *, kind: str = "session", cookie: str = "", password: str = PASSWORD) -> Any:
    """Sign in, from a fresh address each time: the lock of addresses has its own tests."""
    shown = Credentials("ada", password, code, origin=f"192.0.2.{next(_ADDRESSES) % 250}", browser_cookie=cookie)
    return sign_in(here, shown, kind=kind, label="t", ttl_s=3600)


_ADDRESSES = iter(range(10_000_000))


def call(here: Context, grant: Any) -> FlaskClient:
    """A client with a token."""
    client = create_operator_app(here).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {grant.token}"
    return client


def set_up(here: Context) -> tuple[pyotp.TOTP, list[str]]:
    """Ada's telephone, and her recovery codes."""
    client = call(here, show(here, kind="token").grant)
    begun = client.post("/api/v1/account/second-factor", json={"password": PASSWORD})
    assert begun.status_code == 201
    telephone = pyotp.parse_uri(begun.json["uri"])
    assert isinstance(telephone, pyotp.TOTP)
    assert (telephone.name, telephone.issuer, len(begun.json["secret"])) == ("ada", "Rookery", 32)
    answer = client.post("/api/v1/account/second-factor/confirm", json={"code": now(telephone, here)})
    assert answer.status_code == 200
    here.clock.forward(31)  # type: ignore[attr-defined]  # the code that switched it on is used up
    return telephone, answer.json["recovery_codes"]


def now(telephone: pyotp.TOTP, here: Context, steps: int = 0) -> str:
    """What the telephone shows, or showed so many steps ago."""
    return telephone.generate_otp(int(here.clock()) // 30 + steps)


def test_a_password_alone_does_not_sign_in_and_the_words_do_not_tell_why(ada: Context) -> None:
    """Ada's password was phished. Without her telephone the answer is the one of a wrong password."""
    telephone, _ = set_up(ada)
    for code in ("", "000000", now(telephone, ada, -5), "12345", "abcdef", "１２３４５６", now(telephone, ada) + "0"):
        with pytest.raises(UnauthenticatedError) as refused:
            show(ada, code)
        with pytest.raises(UnauthenticatedError) as mistyped:
            show(ada, code, password="wrong password")
        assert (refused.value.detail, refused.value.hint) == (mistyped.value.detail, mistyped.value.hint)
        assert refused.value.detail == WRONG
    grant = show(ada, now(telephone, ada)).grant
    assert grant.operator.name == "ada"


def test_a_code_works_once(ada: Context) -> None:
    """Somebody reads the code over Ada's shoulder and is quick: it was used already, and so is each one before it."""
    telephone, _ = set_up(ada)
    code, before = now(telephone, ada), now(telephone, ada, -1)
    show(ada, code)
    for old in (code, before):
        with pytest.raises(UnauthenticatedError):
            show(ada, old)
    ada.clock.forward(30)  # type: ignore[attr-defined]
    with pytest.raises(UnauthenticatedError):
        show(ada, code)
    show(ada, now(telephone, ada))


@pytest.mark.parametrize(("steps", "taken"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_telephone_may_be_one_step_off(ada: Context, steps: int, taken: bool) -> None:
    """Its clock is half a minute slow or fast."""
    telephone, _ = set_up(ada)
    ada.clock.forward(300)  # type: ignore[attr-defined]
    if taken:
        show(ada, now(telephone, ada, steps))
    else:
        with pytest.raises(UnauthenticatedError):
            show(ada, now(telephone, ada, steps))


def test_a_recovery_code_works_once_however_it_is_typed(ada: Context) -> None:
    """The telephone fell into the sea: a printed code lets Ada in, once, and the audit says so."""
    _, codes = set_up(ada)
    assert len(set(codes)) == 10
    show(ada, codes[0].upper().replace("-", " "))
    with pytest.raises(UnauthenticatedError):
        show(ada, codes[0])
    show(ada, codes[1])
    with ada.database.read() as session:
        assert audit.entries(session)[0].after["by"] == "recovery"  # type: ignore[index]
        assert second_factor.state(session, people.get(session, "ada").id).recovery_codes_left == 8


def test_guessing_codes_with_the_right_password_ends_and_a_known_browser_goes_on(ada: Context) -> None:
    """Who has the password tries codes from many addresses: after ten no code is taken for a while, and the words stay the same.
    Ada's own browser is not touched by it."""
    telephone, codes = set_up(ada)
    cookie = show(ada, now(telephone, ada)).browser_cookie
    for guess in range(second_factor.FREE_FAILURES):
        with pytest.raises(UnauthenticatedError):
            show(ada, f"{guess:06}")
    ada.clock.forward(31)  # type: ignore[attr-defined]
    for right in (now(telephone, ada), codes[0]):
        with pytest.raises(UnauthenticatedError, match=WRONG):
            show(ada, right)
    show(ada, now(telephone, ada), cookie=cookie)
    ada.clock.forward(61)  # type: ignore[attr-defined]
    show(ada, codes[0])


def test_a_stranger_without_the_password_cannot_lock_the_factor(ada: Context) -> None:
    """Wrong codes beside wrong passwords are not counted against the telephone."""
    telephone, _ = set_up(ada)
    for guess in range(3 * second_factor.FREE_FAILURES):
        with pytest.raises(UnauthenticatedError):
            show(ada, f"{guess:06}", password="wrong password")
    show(ada, now(telephone, ada))


def test_the_stolen_database_yields_no_code(ada: Context) -> None:
    """A dump of the database without the folder of keys: no secret and no recovery code; nor can it be moved to another."""
    telephone, codes = set_up(ada)
    with ada.database.engine.connect() as connection:
        rows = [
            str(tuple(row)) for table in ("second_factor", "recovery_code", "operator", "audit")
            for row in connection.exec_driver_sql(f"SELECT * FROM {table}")
        ]
        sealed, owner = connection.exec_driver_sql("SELECT sealed, operator_id FROM second_factor").one()
    assert not any(secret in row for row in rows for secret in (telephone.secret, *codes))
    assert sealing.unseal(ada.factor_key, sealed, owner=str(owner)) == telephone.secret
    for key, whose in ((b"x" * 32, str(owner)), (ada.factor_key, str(owner + 1))):
        with pytest.raises(UnavailableError, match="factor-key"):
            sealing.unseal(key, sealed, owner=whose)
    with pytest.raises(UnavailableError):  # a server that lost its key says so, and lets nobody in without it
        show(replace(ada, factor_key=b"y" * 32), now(telephone, ada))


def test_it_counts_only_after_its_first_right_code(ada: Context) -> None:
    """Ada closes the page before she has scanned it: she is not locked out; a secret of before is worthless."""
    client = call(ada, show(ada, kind="token").grant)
    old = client.post("/api/v1/account/second-factor", json={}).json["secret"]
    show(ada)
    new = client.post("/api/v1/account/second-factor", json={}).json["secret"]
    assert old != new
    assert client.post("/api/v1/account/second-factor/confirm", json={"code": now(pyotp.TOTP(old), ada)}).status_code == 403
    assert client.post("/api/v1/account/second-factor/confirm", json={"code": now(pyotp.TOTP(new), ada)}).status_code == 200
    assert client.post("/api/v1/account/second-factor", json={}).status_code == 409


def test_switching_it_on_or_off_ends_everything_else_and_takes_password_and_code(ada: Context) -> None:
    """A thief sits in another session: it ends as soon as the factor is on. Off takes both, however fresh the session."""
    thief = call(ada, show(ada).grant)
    thief.environ_base.pop("HTTP_AUTHORIZATION")
    other = call(ada, show(ada, kind="token").grant)
    telephone, _ = set_up(ada)
    assert other.get("/api/v1/whoami").status_code == 401
    grant = show(ada, now(telephone, ada), kind="token").grant
    client = call(ada, grant)
    ada.clock.forward(31)  # type: ignore[attr-defined]
    for shown in ({}, {"password": PASSWORD}, {"code": now(telephone, ada)}, {"password": "x", "code": now(telephone, ada)}):
        assert client.post("/api/v1/account/second-factor/remove", json=shown).status_code == 403
    right = {"password": PASSWORD, "code": now(telephone, ada)}
    assert client.post("/api/v1/account/second-factor/remove", json=right).status_code == 204
    show(ada)
    with ada.database.read() as session:
        deeds = [entry.what for entry in audit.entries(session)]
    assert {"account.factor-on", "account.factor-off", "proof.failed"} <= set(deeds)


def test_who_must_have_one_sees_nothing_before_it_is_set_up(ada: Context) -> None:
    """Admins must have a second factor: a session without one leads to setting it up and nowhere else; tokens are refused."""
    strict = replace(ada, settings=replace(ada.settings, require_second_factor="admin"))
    with pytest.raises(ForbiddenError, match="needs a second factor"):
        show(strict, kind="token")
    before = show(ada, kind="token").grant
    assert call(strict, before).get("/api/v1/devices").status_code == 403
    browser = create_operator_app(strict).test_client()
    assert browser.post("/api/v1/login", json={"name": "ada", "password": PASSWORD}).status_code == 200
    assert browser.get("/").headers["Location"] == "/account/second-factor"
    assert browser.get("/api/v1/accounts").status_code == 403
    assert browser.get("/api/v1/whoami").status_code == 200
    page = browser.get("/account/second-factor").text
    assert "must have a second factor" in page
    token = page.split('name="csrf_token" value="')[1].split('"')[0]
    browser.post("/account/second-factor", data={"csrf_token": token})
    page = browser.get("/account/second-factor").text
    assert "<svg" in page
    secret = page.split('id="secret">')[1].split("<")[0]
    code = now(pyotp.TOTP(secret), strict)
    assert "Recovery codes" in browser.post("/account/second-factor/confirm", data={"csrf_token": token, "code": code}).text
    assert browser.get("/").status_code == 200


def test_the_setting_is_read_or_refused() -> None:
    """A typo in the setting must not silently demand nothing."""
    assert second_factor.required_roles("none") == second_factor.required_roles("") == frozenset()
    assert second_factor.required_roles("admin, security") == {"admin", "security"}
    assert len(second_factor.required_roles("all")) == 5
    for wrong in ("admins", "none,admin", "yes", "all,admin"):
        with pytest.raises(SettingsError):
            second_factor.required_roles(wrong)


def test_the_password_is_asked_again_in_a_session_that_is_not_fresh(ada: Context) -> None:
    """Ada left her desk and her browser open: a passer-by cannot make himself a token, and wrong guesses end soon."""
    client = call(ada, show(ada, kind="token").grant)
    body = {"token_name": "t", "scopes": ["viewer"]}
    assert client.post("/api/v1/account/tokens", json=body).status_code == 201
    ada.clock.forward(601)  # type: ignore[attr-defined]
    assert client.post("/api/v1/account/tokens", json=body).status_code == 403
    codes = [
        client.post("/api/v1/account/tokens", json={**body, "password": f"guess {number}"}).status_code for number in range(7)
    ]
    assert codes == [403] * lockout.FREE_FAILURES + [429] * 2
    ada.clock.forward(61)  # type: ignore[attr-defined]
    assert client.post("/api/v1/account/tokens", json={**body, "password": PASSWORD}).status_code == 201
    assert client.post("/api/v1/account/tokens", json=body).status_code == 201
