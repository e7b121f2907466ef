"""A device's board is wiped, dies, is copied, or goes for good: what passes over, what ends, and that it ends at once."""

import contextlib
import hashlib
import threading
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleet_server.alerts.service import alerts, reconcile
from fleet_server.audit import service as audit
from fleet_server.configuration import service as configuration
from fleet_server.context import Context
from fleet_server.detections import service as detections
from fleet_server.enrolment import certificates
from fleet_server.enrolment import service as enrolment
from fleet_server.errors import ConflictError, ForbiddenError
from fleet_server.ingest.conditions_disk import gather
from fleet_server.inventory import service as inventory
from fleet_server.rollouts import explain, reports, targets
from ota.wire.deployments import ReportBatch
from ota.wire.events import Event, EventBatch

DAY_S = 86_400.0
JPEG = b"\xff\xd8" + b"x" * 40


def serial_of(der: bytes) -> str:
    return f"{x509.load_der_x509_certificate(der).serial_number:x}"


def der_of(pem: str) -> bytes:
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


class Door:
    """The device door as one board sees it, with the certificate that it shows."""

    def __init__(self, device_door: Any, der: bytes | None = None) -> None:
        self._door, self.der = device_door, der

    def post(self, path: str, message: Any) -> Any:
        self._door.certificate = self.der
        body = msgspec.json.encode(message)
        return self._door.client.post(f"/device/v1/{path}", data=body, content_type="application/json")

    def put(self, url: str, headers: dict[str, str], data: bytes) -> Any:
        self._door.certificate = self.der
        return self._door.client.put(url[url.index("/blobs/") :], data=data, headers=headers)


def slot(name: str = "e") -> dict[str, Any]:
    digest = hashlib.sha256(JPEG).hexdigest()
    return {"v": 1, "sha256": digest, "length_bytes": len(JPEG), "content_type": "image/jpeg", "name": name}


def event(number: int) -> Event:
    return Event(
        sequence=number, id=f"ev{number}", camera="cam0", track=1, label="person", rule="gate", rule_kind="zone", zone="gate",
        started_at_s=1_790_000_000.0 + number, ended_at_s=None, start_frame=1, end_frame=2, score=0.9, threshold=0.5,
        box=[0, 0, 5, 5], frame_width_px=320, frame_height_px=240, bundle_sha256="a" * 64, release="yard@1", crops=[],
    )  # fmt: skip


def test_a_wiped_board_is_the_same_device_again(
    server: Context, device_door: Any, enrolled: Any, sign_in: Any, new_board: Any
) -> None:
    """Another card, an operator's word: the id stays, every older certificate ends with the new one's, and it is no clone."""
    old, operator = Door(device_door, enrolled.der), sign_in("security")
    with server.database.write() as session:  # its counter stands high; an empty card begins at 1 again
        reports.store_reports(session, enrolled.device_id, batch(41, "a" * 16), now_s=server.clock())
    assert sign_in("operator").post(f"/api/v1/devices/{enrolled.device_id}/readmit", json={}).status_code == 403
    first = operator.post(f"/api/v1/devices/{enrolled.device_id}/readmit", json={"reason": "card"}).json["claim"]["token"]
    made = operator.post(f"/api/v1/devices/{enrolled.device_id}/readmit", json={"reason": "card"})
    assert made.status_code == 201
    assert old.post("uploads", slot()).status_code == 200, "until the claim is used nothing changes"
    board = new_board()
    assert "ended this claim" in Door(device_door).post("enrol", board.request(first)).json["detail"], "one claim at a time"
    answer = Door(device_door).post("enrol", board.request(made.json["claim"]["token"]))
    assert answer.json["device"] == enrolled.device_id
    assert old.post("uploads", slot()).status_code == 403
    assert old.post("renew", {"v": 1, "csr_pem": new_board().csr_pem}).status_code == 403
    new = Door(device_door, der_of(answer.json["certificate_pem"]))
    assert new.post("uploads", slot("f")).status_code == 200
    with server.database.write() as session:
        reports.store_reports(session, enrolled.device_id, batch(1, "b" * 16), now_s=server.clock())
        assert inventory.get(session, enrolled.device_id, server.clock()).held is None
    with server.database.read() as session:
        deeds = {entry.what: entry for entry in audit.entries(session)}
        assert deeds["device.readmitted"].after["certificates_ended"] == 1
        assert deeds["device.readmit"].before == {"state": "active", "held": None}


def test_a_revoked_device_comes_back_only_by_an_operators_word(
    server: Context, device_door: Any, enrolled: Any, sign_in: Any, new_board: Any
) -> None:
    """It was thought stolen, was found, and is set up anew: the old keys stay worthless."""
    operator = sign_in("security")
    assert operator.post(f"/api/v1/devices/{enrolled.device_id}/revoke", json={"reason": "stolen"}).status_code == 200
    token = operator.post(f"/api/v1/devices/{enrolled.device_id}/readmit", json={}).json["claim"]["token"]
    assert Door(device_door).post("enrol", enrolled.board.request(token)).status_code == 403, "the old key"
    answer = Door(device_door).post("enrol", new_board().request(token))
    assert answer.json["device"] == enrolled.device_id
    assert Door(device_door, der_of(answer.json["certificate_pem"])).post("uploads", slot()).status_code == 200
    assert Door(device_door, enrolled.der).post("uploads", slot()).status_code == 403
    with server.database.read() as session:
        assert certificates.revoked_devices(session) == []


def test_a_dead_board_is_replaced_with_name_zones_and_history(
    server: Context, device_door: Any, enrolled: Any, sign_in: Any, new_board: Any
) -> None:
    """The new board takes name, group, configuration, target and the place in history; the old one is gone in that moment."""
    now_s, old_id = server.clock(), enrolled.device_id
    author = configuration.Author("ada", "", now_s)
    zones = {"every_camera": {"zones": [{"name": "door", "polygon": [[0, 0], [1, 0], [1, 1]]}]}}
    configuration.put(server.database, f"device:{old_id}", zones, if_version=None, author=author)
    with server.database.write() as session:
        name = inventory.get(session, old_id, now_s).name
        detections.store_events(session, old_id, EventBatch(boot_id="b", events=[event(1)]), now_s=now_s)
        targets.set_target(session, old_id, "yard@3", source="rollout:r-1", now_s=now_s)
    made = sign_in("security").post(f"/api/v1/devices/{name}/replace", json={"serial": "NEW-1", "reason": "lightning"})
    board = new_board()
    wrong = Door(device_door).post("enrol", board.request(made.json["claim"]["token"], serial="OTHER"))
    assert wrong.status_code == 403
    answer = Door(device_door).post("enrol", board.request(made.json["claim"]["token"], serial="NEW-1"))
    new_id = answer.json["device"]
    assert new_id != old_id
    assert Door(device_door).post("enrol", board.request(made.json["claim"]["token"], serial="NEW-1")).json == answer.json
    assert Door(device_door, enrolled.der).post("uploads", slot()).status_code == 403
    viewer = sign_in("viewer")
    shown = viewer.get(f"/api/v1/devices/{name}").json
    assert (shown["id"], shown["replaces"], shown["wanted"], shown["serial"]) == (new_id, old_id, "yard@3", "NEW-1")
    assert viewer.get(f"/api/v1/devices/{old_id}").json["state"] == "decommissioned"
    with server.database.write() as session:
        assert configuration.effective(session, new_id) == zones
        detections.store_events(session, new_id, EventBatch(boot_id="b", events=[event(2)]), now_s=now_s)
    seen = viewer.get(f"/api/v1/detections?device={name}").json["items"]
    assert [(one["id"], one["device"]) for one in seen] == [("ev2", new_id), ("ev1", old_id)]
    again = sign_in("security").post(f"/api/v1/devices/{old_id}/replace", json={})
    assert again.status_code == 409


def test_a_decommissioned_devices_keys_are_worthless(
    server: Context, device_door: Any, enrolled: Any, sign_in: Any, new_board: Any
) -> None:
    """The card is found on a scrap heap: no request, no renewal, no signed slot of before, no enrolment; the name is free."""
    old, operator = Door(device_door, enrolled.der), sign_in("security")
    given = old.post("uploads", slot()).json
    name = operator.get(f"/api/v1/devices/{enrolled.device_id}").json["name"]
    waiting_claim = operator.post(f"/api/v1/devices/{name}/readmit", json={}).json["claim"]["token"]
    assert operator.post(f"/api/v1/devices/{name}/decommission", json={"reason": "sold"}).json["state"] == "decommissioned"
    assert operator.post(f"/api/v1/devices/{enrolled.device_id}/decommission", json={}).status_code == 200, "twice is once"
    for path, message in (
        ("uploads", slot("g")), ("state", {"v": 1, "nonce": "n" * 20, "seq": 0}),
        ("renew", {"v": 1, "csr_pem": new_board().csr_pem}),
        ("events", EventBatch(boot_id="b", events=[event(1)])), ("reports", batch(9, "a" * 16)),
    ):  # fmt: skip
        refused = old.post(path, message)
        assert (refused.status_code, "revoked" in refused.json["detail"]) == (403, True), path
    assert old.put(given["url"], given["headers"], JPEG).status_code == 403, "a slot that was signed before"
    for token in (waiting_claim, ""):
        assert Door(device_door).post("enrol", enrolled.board.request(token)).status_code == 403
    assert Door(device_door).post("enrol", new_board().request(waiting_claim)).status_code == 403
    assert operator.post(f"/api/v1/devices/{enrolled.device_id}/readmit", json={}).status_code == 409
    claim = sign_in("operator").post("/api/v1/claims", json={"device_name": name}).json["items"][0]["token"]
    fresh = Door(device_door).post("enrol", new_board().request(claim)).json["device"]
    assert operator.get(f"/api/v1/devices/{name}").json["id"] == fresh
    assert operator.get(f"/api/v1/devices/{enrolled.device_id}").json["name"] == f"{name}~{enrolled.device_id}"
    assert certificates_of(server, enrolled.device_id) == 0


def certificates_of(server: Context, device_id: str) -> int:
    with server.database.read() as session:
        return sum(one.revoked_s is None for one in certificates.of_device(session, device_id))


def test_a_renewal_under_way_does_not_outlive_a_revocation(server: Context, issuer: Any, enrolled: Any, new_board: Any) -> None:
    """The request had passed the door when the operator revoked: no new certificate comes of it, in whatever order they meet."""
    presented = serial_of(enrolled.der)
    with server.database.write() as session:
        enrolment.revoke(session, enrolled.device_id, reason="", who="ada", origin="", now_s=server.clock())
    with pytest.raises(ForbiddenError, match="revoked"), server.database.write() as session:
        enrolment.renew(session, enrolled.device_id, new_board().csr_pem, issuer, presented=presented, now_s=server.clock())
    assert certificates_of(server, enrolled.device_id) == 0


def test_renewals_race_with_an_end_for_good(server: Context, issuer: Any, enrol_device: Any, new_board: Any) -> None:
    """Four renewals and a decommission at the same moment, several times: never a good certificate for a device that is gone."""
    for _ in range(4):
        enrolled, barrier = enrol_device(), threading.Barrier(5)

        def renew(enrolled: Any = enrolled, barrier: Any = barrier) -> None:
            board = new_board()
            barrier.wait(60)
            presented = serial_of(enrolled.der)
            with contextlib.suppress(ForbiddenError), server.database.write() as session:  # refused: the end came first
                enrolment.renew(
                    session, enrolled.device_id, board.csr_pem, issuer, presented=presented, now_s=server.clock()
                )

        def end(enrolled: Any = enrolled, barrier: Any = barrier) -> None:
            barrier.wait(60)
            with server.database.write() as session:
                enrolment.decommission(session, enrolled.device_id, reason="", who="ada", origin="", now_s=server.clock())

        threads = [threading.Thread(target=each) for each in (renew, renew, end, renew, renew)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert certificates_of(server, enrolled.device_id) == 0


def test_what_got_lost_on_its_way_is_no_second_identity(server: Context, issuer: Any, enrolled: Any, new_board: Any) -> None:
    """Two renewals whose keys were lost with the card's free space: only the one in use and the newest are good."""
    for _ in range(3):
        with server.database.write() as session:
            enrolment.renew(
                session, enrolled.device_id, new_board().csr_pem, issuer, presented=serial_of(enrolled.der), now_s=server.clock()
            )
    assert certificates_of(server, enrolled.device_id) == 2


def batch(counter: int, boot_id: str) -> ReportBatch:
    return ReportBatch(counter=counter, boot_id=boot_id, reports=[], highest_seq=0)


def test_a_cloned_card_is_shown_and_there_are_three_ways_out(
    server: Context, device_door: Any, enrol_device: Any, sign_in: Any, new_board: Any
) -> None:
    """A card was copied: alert, device page and why-not name both; neither is updated, both go on; each way on ends it."""
    held = []
    for _ in range(3):
        device = enrol_device()
        for boot in ("a" * 16, "b" * 16):  # the same counter from two boots
            answer = Door(device_door, device.der).post("reports", batch(7, boot))
            assert answer.status_code == 200, "neither stops seeing"
        held.append(device)
    with server.database.write() as session:
        targets.set_target(session, held[0].device_id, "yard@3", source="rollout:r-1", now_s=server.clock())
        found = gather(session, data_dir=server.settings.data_dir, now_s=server.clock(), within_s=90.0)
        reconcile(session, found, server.clock())
    with server.database.read() as session:
        told = [one for one in alerts(session) if one.kind == "clone"]
        assert {one.subject for one in told} == {one.device_id for one in held}
        assert all("aaaaaaaaaaaa" in one.text and "bbbbbbbbbbbb" in one.text for one in told), "both sides"
        why = explain.explain(session, held[0].device_id, now_s=server.clock(), within_s=90.0)
        assert any("two cards" in sentence for sentence in why.sentences)
    page = sign_in("viewer").get(f"/devices/{held[0].device_id}", headers={"Accept": "text/html"}).text
    assert "aaaaaaaaaaaa" in page
    assert "The other ways on" in page
    operator = sign_in("admin")
    assert operator.post(f"/api/v1/devices/{held[0].device_id}/unhold", json={}).status_code == 204
    token = operator.post(f"/api/v1/devices/{held[1].device_id}/readmit", json={}).json["claim"]["token"]
    assert Door(device_door).post("enrol", new_board().request(token)).status_code == 200
    assert operator.post(f"/api/v1/devices/{held[2].device_id}/decommission", json={}).status_code == 200
    with server.database.write() as session:
        states = [inventory.get(session, one.device_id, server.clock()).held for one in held]
        assert states == [None, None, None]
        found = gather(session, data_dir=server.settings.data_dir, now_s=server.clock(), within_s=90.0)
        assert [one for one in found if one.kind == "clone"] == []


def test_ends_that_cannot_be(server: Context, enrolled: Any) -> None:
    """A claim for a device that is gone is not made."""
    with server.database.write() as session:
        enrolment.decommission(session, enrolled.device_id, reason="", who="ada", origin="", now_s=server.clock())
    for verb in (enrolment.readmit, enrolment.replace):
        more = {"serial": None} if verb is enrolment.replace else {}
        with pytest.raises(ConflictError, match="never comes back"), server.database.write() as session:
            verb(session, enrolled.device_id, ttl_s=60, reason="", who="ada", origin="", now_s=server.clock(), **more)
