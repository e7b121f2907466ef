"""Fetching one file from a server that is cut, drips, lies about ranges, is overloaded, or serves something else."""

import datetime
import hashlib
import ipaddress
import ssl

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ota.trust.content_aim_http import Stores
from ota.trust.content_http import Fetched, Limits, fetch
from ota.trust.pace import BURST_S, LeastRate, Pace
from ota.trust.refusal import Refusal

DATA = bytes(range(256)) * 1500
SHA256 = hashlib.sha256(DATA).hexdigest()
QUICK = Limits(total_s=20.0, gap_s=2.0, attempts=3, backoff_s=0.01)


@pytest.fixture
def place(tmp_path, serve, pool):
    """A server with one file, and a function that fetches it."""
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "file").write_bytes(DATA)
    server = serve(tmp_path / "www")
    destination = tmp_path / "in" / "file"

    def bring(limits=QUICK, **how):
        how = {"length_bytes": len(DATA), "sha256": SHA256, **how}
        return fetch(pool, f"{server.url}/file", destination, limits=limits, **how)

    return server, destination, bring


def part(destination):
    return destination.with_name(destination.name + ".part")


def test_a_plain_fetch(place):
    _server, destination, bring = place
    told = []
    got = bring(progress=lambda done, whole: told.append((done, whole)))
    assert got == Fetched(destination, len(DATA), len(DATA), 0, 1)
    assert destination.read_bytes() == DATA
    assert not part(destination).exists()
    assert told[-1] == (len(DATA), len(DATA))
    assert bring().requests == 0  # it is there: nothing is asked for


@pytest.mark.parametrize("cut", [0, 1, 65_535, 65_536, 200_000, len(DATA) - 1])
def test_a_cut_is_taken_up_where_it_happened(place, cut):
    """The line breaks at a byte of the attacker's choice; at most what was in flight is fetched twice."""
    server, destination, bring = place
    server.misbehave(cut_at_bytes=cut, times=1)
    got = bring()
    assert isinstance(got, Fetched), got
    assert got.received_bytes == len(DATA)
    assert got.requests == 2
    assert server.requests[1] == ("/file", f"bytes={cut}-" if cut else "")
    assert destination.read_bytes() == DATA


def test_many_cuts_are_one_file_as_long_as_each_brings_something(place):
    server, _destination, bring = place
    server.misbehave(cut_at_bytes=60_000, times=20)
    got = bring()
    assert isinstance(got, Fetched)
    assert got.requests == 7
    assert got.received_bytes == len(DATA)


def test_a_partial_file_of_an_earlier_start_is_resumed(place):
    """The board lost power at 200,000 bytes."""
    server, destination, bring = place
    destination.parent.mkdir()
    part(destination).write_bytes(DATA[:200_000])
    got = bring()
    assert got.resumed_at_bytes == 200_000
    assert got.received_bytes == len(DATA) - 200_000
    assert server.requests == [("/file", "bytes=200000-")]


@pytest.mark.parametrize("poison", [b"x" * 100_000, b"x" * len(DATA), b"x" * (len(DATA) + 5)])
def test_a_poisoned_partial_costs_one_full_download_and_never_an_install(place, poison):
    server, destination, bring = place
    destination.parent.mkdir()
    part(destination).write_bytes(poison)
    got = bring()
    assert isinstance(got, Fetched)
    assert got.resumed_at_bytes == 0
    assert destination.read_bytes() == DATA
    assert [asked for _, asked in server.requests].count("") == 1


@pytest.mark.parametrize(
    "misdeed",
    [{"ignore_range": True}, {"wrong_range": True, "times": 1}, {"headers": {"Content-Range": "bytes 0-1/2"}, "times": 1}],
)
def test_a_server_that_is_wrong_about_ranges_costs_a_full_download(place, misdeed):
    server, destination, bring = place
    destination.parent.mkdir()
    part(destination).write_bytes(DATA[:1000])
    server.misbehave(**misdeed)
    assert isinstance(bring(), Fetched)
    assert destination.read_bytes() == DATA


def test_416_discards_the_partial(place):
    server, destination, bring = place
    destination.parent.mkdir()
    part(destination).write_bytes(DATA[:1000])
    server.misbehave(status=416, times=1)
    assert isinstance(bring(), Fetched)
    server.misbehave(status=416)
    destination.unlink()
    assert bring().code == "download"


def test_tampered_content_is_a_hash_refusal_and_leaves_nothing(place):
    """One byte was flipped in the server's store: same length, other content."""
    server, destination, bring = place
    server.misbehave(replace=lambda data: data[:500] + b"!" + data[501:])
    refused = bring()
    assert isinstance(refused, Refusal)
    assert refused.code == "hash"
    assert not destination.exists()
    assert not part(destination).exists()
    assert len(server.requests) == 1


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"more", lambda data: b""])
def test_content_of_another_length_is_a_hash_refusal(place, change):
    server, destination, bring = place
    server.misbehave(replace=change)
    assert bring().code == "hash"
    assert not destination.exists()
    assert not part(destination).exists()


def test_a_body_without_end_is_not_written_to_the_disk(place):
    """No length is told, and bytes keep coming."""
    server, destination, bring = place
    server.misbehave(replace=lambda data: data * 3, headers={"Content-Length": str(len(DATA))})
    outcome = bring()
    assert isinstance(outcome, Fetched) or outcome.code == "hash"
    assert not part(destination).exists()


@pytest.mark.parametrize("status", [401, 403, 404, 410, 302])
def test_answers_that_will_not_change_are_not_asked_again(place, status):
    server, _destination, bring = place
    server.misbehave(status=status)
    assert bring() == Refusal("download", f"{server.url}/file: the server answered {status}")
    assert len(server.requests) == 1


def test_an_overloaded_server_is_asked_again_a_few_times(place):
    server, destination, bring = place
    server.misbehave(status=500, times=2)
    assert bring().requests == 3
    destination.unlink()
    server.misbehave(status=503)
    refused = bring()
    assert refused.code == "download"
    assert "given up after 3 tries" in refused.detail


def test_retry_after_is_honoured_within_reason(place):
    server, destination, bring = place
    server.misbehave(status=503, headers={"Retry-After": "0"}, times=1)
    assert bring().requests == 2
    destination.unlink()
    server.requests.clear()
    server.misbehave(status=429, headers={"Retry-After": "86400"})
    refused = bring()
    assert refused.code == "download"
    assert "asks to wait 86400 s" in refused.detail
    assert len(server.requests) == 1


@pytest.mark.parametrize("misdeed", [{"drip_s": 0.02}, {"drip_headers_s": 0.02}])
def test_a_drip_ends_at_the_total_time(place, misdeed):
    """One byte every 20 ms keeps every socket timeout happy for hours; the total time does not care."""
    server, _destination, bring = place
    server.misbehave(**misdeed)
    refused = bring(Limits(total_s=0.5, gap_s=5.0))
    assert refused.code == "download"
    assert "0 s" in refused.detail


def test_a_drip_is_too_slow(place):
    server, destination, bring = place
    server.misbehave(drip_s=0.01)
    refused = bring(Limits(total_s=60.0, gap_s=5.0, rate_window_s=0.3, min_rate_bytes_s=5000.0))
    assert refused.code == "download"
    assert "too few" in refused.detail
    assert part(destination).exists()  # what came is kept for the next try
    server.misdeeds.clear()
    assert isinstance(bring(), Fetched)


def test_silence_ends_at_the_gap(place):
    server, _destination, bring = place
    server.misbehave(drip_s=30.0)
    refused = bring(Limits(total_s=60.0, gap_s=0.2, attempts=2, backoff_s=0.01))
    assert refused.code == "download"
    assert "in time" in refused.detail


def test_it_stops_when_told_and_goes_on_later(place):
    """A newer assignment arrives in the middle of a download."""
    _server, _destination, bring = place
    seen = []
    refused = bring(progress=lambda done, whole: seen.append(done), should_stop=lambda: bool(seen))
    assert refused.code == "download"
    assert "stopped" in refused.detail
    got = bring()
    assert isinstance(got, Fetched)
    assert got.resumed_at_bytes == seen[-1]


def test_a_disk_that_cannot_be_written(place, tmp_path):
    """The download folder's name is taken by a file."""
    _server, destination, bring = place
    destination.parent.write_bytes(b"a file, not a folder")
    assert bring().code == "disk"


def test_an_empty_file(place):
    _server, destination, bring = place
    got = bring(length_bytes=0, sha256=hashlib.sha256(b"").hexdigest())
    assert isinstance(got, Fetched)
    assert destination.read_bytes() == b""
    assert got.requests == 0


def test_nothing_listens(place):
    server, _destination, bring = place
    server.close()
    assert bring().code == "download"


@pytest.fixture
def tls(tmp_path):
    """A server's TLS context and a pool that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
    certificate = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    pool = urllib3.PoolManager(ca_certs=str(tmp_path / "cert.pem"))
    yield context, pool
    pool.clear()


def test_over_tls_on_one_connection_and_within_its_time(tmp_path, serve, tls):
    """As a device does it: several files over one TLS connection, and a drip inside TLS still ends at the total time."""
    context, pool = tls
    (tmp_path / "www").mkdir()
    server = serve(tmp_path / "www", context)
    for number in range(3):
        (tmp_path / "www" / f"file-{number}").write_bytes(DATA)
        url, into = f"{server.url}/file-{number}", tmp_path / "in" / f"{number}"
        got = fetch(pool, url, into, length_bytes=len(DATA), sha256=SHA256, limits=QUICK)
        assert isinstance(got, Fetched), got
    assert server.connections == 1
    server.misbehave(drip_s=0.02)
    refused = fetch(
        pool,
        f"{server.url}/file-0",
        tmp_path / "in" / "slow",
        length_bytes=len(DATA),
        sha256=SHA256,
        limits=Limits(total_s=0.6, gap_s=5.0),
    )
    assert isinstance(refused, Refusal)
    assert refused.code == "download"
    other = urllib3.PoolManager()  # does not know the server's certificate
    refused = fetch(
        other, f"{server.url}/file-0", tmp_path / "in" / "x", length_bytes=len(DATA), sha256=SHA256, limits=Limits(attempts=1)
    )
    assert isinstance(refused, Refusal)
    assert "certificate" in refused.detail.lower()


@pytest.fixture
def store(tmp_path, serve, pool):
    """A store elsewhere that the first server sends devices on to, with signed addresses that expire."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "signed-1").write_bytes(DATA)
    (tmp_path / "store" / "signed-2").write_bytes(DATA)
    server = serve(tmp_path / "store")
    return server, Stores(pool, lambda url: url.startswith(server.url))


def test_a_signed_address_that_expired_in_the_middle_is_asked_for_anew(place, store):
    """The line is slow; after 200,000 bytes the store says 403. The server gives a fresh address; no byte comes twice."""
    server, destination, bring = place
    other, stores = store
    server.misbehave(status=307, headers={"Location": f"{other.url}/signed-1"}, times=1)
    server.misbehave(status=307, headers={"Location": f"{other.url}/signed-2"}, times=1)
    other.misbehave(path="signed-1", cut_at_bytes=200_000, times=1)
    other.misbehave(path="signed-1", status=403)
    got = bring(stores=stores)
    assert isinstance(got, Fetched), got
    assert got.received_bytes == len(DATA)
    assert other.requests == [("/signed-1", ""), ("/signed-1", "bytes=200000-"), ("/signed-2", "bytes=200000-")]
    assert destination.read_bytes() == DATA


def test_a_store_that_refuses_every_fresh_address_is_given_up(place, store):
    server, _destination, bring = place
    other, stores = store
    server.misbehave(status=302, headers={"Location": f"{other.url}/signed-1"})
    other.misbehave(status=403)
    refused = bring(stores=stores)
    assert refused.code == "download"
    assert len(other.requests) == 2
    assert "signed-1" not in refused.detail  # the address is a secret; its host is enough


def test_a_captured_server_sends_the_board_nowhere_else(place, store):
    """Without stores, and to a host that the policy does not name: an address elsewhere is not even looked at."""
    server, _destination, bring = place
    other, _stores = store
    server.misbehave(status=307, headers={"Location": f"{other.url}/signed-1"})
    assert bring().detail.endswith("the server answered 307")
    refused = bring(stores=Stores(urllib3.PoolManager(), lambda url: False))
    assert refused.code == "download"
    assert "policy does not allow" in refused.detail
    assert other.requests == []


def test_a_store_cannot_send_us_on_again(place, store):
    """A ring of redirects is one redirect."""
    server, _destination, bring = place
    other, stores = store
    server.misbehave(status=307, headers={"Location": f"{other.url}/signed-1"})
    other.misbehave(status=307, headers={"Location": f"{other.url}/signed-1"})
    assert bring(stores=stores).code == "download"
    assert len(other.requests) == 1


def test_the_bandwidth_limit_is_kept_over_all_files_of_an_update():
    """Two files share a line of 100,000 bytes a second: whatever the pieces, the mean stays below it; idle time is no credit."""
    pace, now_s, told = Pace(100_000.0), 50.0, 0
    for size in [65_536, 1, 65_536, 1000, 65_536] * 10:
        told += size
        now_s += pace.wait_s(size, now_s)
        assert told <= 100_000.0 * (now_s - 50.0 + BURST_S)
    now_s += 3600.0
    pace.wait_s(1_000_000, now_s)
    assert pace.wait_s(1, now_s) == pytest.approx(10.0, abs=BURST_S + 0.01)
    assert Pace(None).wait_s(10**9, 0.0) == 0.0


def test_our_own_pauses_are_not_the_senders_fault():
    """A limit below the least rate must not end a download that the server serves well."""
    least = LeastRate(512.0, 30.0, 0.0)
    for second in range(1, 100):
        least.paused(1.0)
        assert least.too_slow(100, float(second)) is None
    slow = LeastRate(512.0, 30.0, 0.0)
    assert [slow.too_slow(100, float(second)) for second in range(1, 31)][-1] == pytest.approx(100.0)


def test_a_limited_download_pauses_and_is_whole(place):
    """The limit is seen to bind by the pauses, not by a clock."""
    _server, destination, bring = place
    asked = []

    class Watched(Pace):
        def wait_s(self, received_bytes, now_s):
            asked.append(super().wait_s(received_bytes, now_s))
            return min(asked[-1], 0.001)

    assert isinstance(bring(pace=Watched(1000.0)), Fetched)
    assert max(asked) > 100.0
    assert destination.read_bytes() == DATA
