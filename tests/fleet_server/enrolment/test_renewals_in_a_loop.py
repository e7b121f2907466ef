"""A thief has one device's key and asks for certificates: how many there are, what they cost the fleet, and who hears of it."""

import contextlib
import threading
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleet_server.audit import service as audit
from fleet_server.context import Context
from fleet_server.enrolment import authorities_disk, certificates, living, profiles_x509, renewing
from fleet_server.enrolment import service as enrolment
from fleet_server.errors import TooManyError

DAY_S = 86_400.0


def serial_of(der: bytes) -> str:
    return f"{x509.load_der_x509_certificate(der).serial_number:x}"


def renew(server: Context, issuer: Any, enrolled: Any, board: Any) -> str:
    with server.database.write() as session:
        return enrolment.renew(
            session, enrolled.device_id, board.csr_pem, issuer, presented=serial_of(enrolled.der), now_s=server.clock()
        )


def test_a_key_that_renews_without_end_gets_five_certificates_a_day(
    server: Context, issuer: Any, enrolled: Any, new_board: Any, device_door: Any, clock: Any
) -> None:
    """Eight at once, then one more at the door: four beside that of its enrolment, a 429 for the rest, and nothing written."""
    clock.forward(60.0)
    made: list[str] = []
    barrier, boards = threading.Barrier(8), [new_board() for _ in range(8)]

    def ask(number: int) -> None:
        barrier.wait(60)
        with contextlib.suppress(TooManyError):
            made.append(renew(server, issuer, enrolled, boards[number]))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(set(made)) == renewing.MOST_PER_DAY - 1
    device_door.certificate = enrolled.der
    answer = device_door.client.post("/device/v1/renew", json={"v": 1, "csr_pem": new_board().csr_pem})
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "3600")
    with server.database.read() as session:
        assert len(certificates.of_device(session, enrolled.device_id)) == renewing.MOST_PER_DAY
        assert len([one for one in audit.entries(session) if one.what == "certificate.renew"]) == len(made)
    clock.forward(DAY_S)
    assert renew(server, issuer, enrolled, new_board()) not in made, "the next day it is a board like any other"


def test_a_lost_answer_is_had_again_however_many_there_were(
    server: Context, issuer: Any, enrolled: Any, new_board: Any, clock: Any
) -> None:
    """The limit is on new keys: a board whose line breaks with each answer asks with the one it has, and gets the same."""
    clock.forward(60.0)
    board = new_board()
    for _ in range(3):
        renew(server, issuer, enrolled, new_board())
    answers = {renew(server, issuer, enrolled, board) for _ in range(2 * renewing.MOST_PER_DAY)}
    assert len(answers) == 1
    with pytest.raises(TooManyError):
        renew(server, issuer, enrolled, new_board())


def test_what_got_lost_waits_for_the_daily_list_and_a_persons_word_does_not(
    server: Context, issuer: Any, enrolled: Any, new_board: Any, clock: Any
) -> None:
    """Three renewals that nobody used end without a list, a signal to the broker or a lost connection; a revocation is news."""
    for _ in range(3):
        clock.forward(60.0)
        renew(server, issuer, enrolled, new_board())
    with server.database.read() as session:
        lost = living.revoked(session, clock())
    assert [one.superseded for one in lost] == [True, True]
    clock.forward(60.0)
    with server.database.write() as session:
        enrolment.revoke(session, enrolled.device_id, reason="stolen", who="ada", origin="", now_s=clock())
    with server.database.read() as session:
        listed = living.revoked(session, clock())
    assert sorted(one.superseded for one in listed) == [False, False, True, True], "the one in use and the newest are news"


def test_a_long_list_is_made_in_one_piece(issuer: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty thousand entries took five seconds of the supervisor's only loop: each one that was added copied all before it."""

    def refused(*_: Any) -> None:
        raise AssertionError("one by one, the work grows with the square")

    monkeypatch.setattr(x509.CertificateRevocationListBuilder, "add_revoked_certificate", refused)
    signer = authorities_disk.load(settings.pki_dir).signers[0]
    entries = [(f"{number:x}", 1_790_000_000.0 + number) for number in range(1, 300)]
    made = x509.load_pem_x509_crl(profiles_x509.revocation_list(signer, entries, 1_790_001_000.0))
    assert {f"{one.serial_number:x}": one.revocation_date_utc.timestamp() for one in made} == dict(entries)
    assert made.public_bytes(Encoding.DER)
