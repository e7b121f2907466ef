"""A whole server at its most talkative: every secret of the run is looked for wherever it could have been left."""

import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pyotp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ota.wire import topics
from ota.wire.codec import decode, encode
from ota.wire.enrolment import BoardFacts, EnrolAnswer, EnrolRequest
from ota.wire.events import UploadRequest, UploadSlot

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
PATIENCE_S = 90.0
PASSWORD, WRONG = "the right words of ada", "the wrong words of ada"
PROXY, CLIENT = "proxy-secret-of-this-run", "client-secret-of-this-run"
CLEO = "the first words of cleo"
JPEG = b"\xff\xd8\xff\xe0 a crop \xff\xd9"


@dataclass
class Run:
    """One server over ``data``, what it said, and what must stand nowhere."""

    data: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    secrets: dict[str, str] = field(default_factory=dict)
    command_lines: set[bytes] = field(default_factory=set)
    device_pem: Path = Path()

    @property
    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data / "run.json").read_text())
        return found

    @property
    def said(self) -> Path:
        return self.data.parent / "stdout"

    def start(self) -> None:
        with self.said.open("ab") as out:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "fleet_server",
                    "run",
                    "--data",
                    str(self.data),
                    "--operator-port",
                    "0",
                    "--device-port",
                    "0",
                ],
                stdout=out,
                stderr=out,
                env=self.environment,
                start_new_session=True,
            )
        until(lambda: (self.data / "run.json").exists() or self._dead(), self.said)
        assert not self._dead(), self.said.read_text()
        self.command_lines |= {words for _pid, words, _environ in self.family()}

    def _dead(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE_S)

    def family(self) -> list[tuple[int, bytes, bytes]]:
        """Process id, command line and environment of the server and all that it started."""
        found, parents = [], {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        assert self.process is not None
        ours = [self.process.pid]
        for pid in ours:
            ours += [child for child, parent in parents.items() if parent == pid]
            with contextlib.suppress(OSError):
                found.append((pid, Path(f"/proc/{pid}/cmdline").read_bytes(), Path(f"/proc/{pid}/environ").read_bytes()))
        return found

    def trust(self, chain: Path | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.facts["ca_file"])
        if chain is not None:
            context.load_cert_chain(chain)
        return context

    def operator(self, token: str = "") -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.facts["operator_url"], verify=self.trust(), headers=headers, timeout=60)

    def device(self, chain: Path | None = None) -> httpx.Client:
        return httpx.Client(base_url=self.facts["device_url"], verify=self.trust(chain), timeout=60)

    def slot(self, data: bytes) -> UploadSlot:
        with self.device(self.device_pem) as door:
            asked = UploadRequest(
                sha256=hashlib.sha256(data).hexdigest(), length_bytes=len(data), content_type="image/jpeg", name="e1"
            )
            return decode(UploadSlot, door.post(topics.UPLOADS, content=encode(asked), headers=JSON).raise_for_status().content)

    def put(self, slot: UploadSlot, data: bytes) -> int:
        path = urlsplit(slot.url)
        with self.device(self.device_pem) as door:
            return door.put(f"{path.path}?{path.query}", content=data, headers=slot.headers).status_code


JSON = {"Content-Type": "application/json"}


def until(true: Callable[[], bool], log: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"it did not happen: {log.read_text()[-2000:]}")
        time.sleep(0.05)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A server that says all it knows, and everything that people and boards do with secrets, well and badly."""
    folder = tmp_path_factory.mktemp("talkative")
    database = folder / "database-url"
    database.write_text(f"sqlite:///{folder / 'server' / 'of-its-own.sqlite3'}\n")
    database.chmod(0o600)
    proxy, client = folder / "proxy-secret", folder / "client-secret"
    for file, secret in ((proxy, PROXY), (client, CLIENT)):
        file.write_text(secret + "\n")
        file.chmod(0o600)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ROOKERY_")} | {
        "ROOKERY_LOG_LEVEL": "debug",
        "ROOKERY_OPERATOR_TLS": "own",
        "ROOKERY_DATABASE_URL_FILE": str(database),
        "ROOKERY_PROXY_SECRET_FILE": str(proxy),
        "ROOKERY_OIDC_ISSUER": "http://127.0.0.1:9",  # nobody listens there: what fails on the way is written down
        "ROOKERY_OIDC_CLIENT_ID": "rookery",
        "ROOKERY_OIDC_CLIENT_SECRET_FILE": str(client),
        "ROOKERY_OUTGOING_HOSTS": "127.0.0.1",
        "AWS_SECRET_ACCESS_KEY": "aws-secret-of-this-run",
        "AWS_ACCESS_KEY_ID": "AKIDOFTHISRUN",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    made = Run(folder / "server", environment, secrets={"AWS": "aws-secret-of-this-run"})
    try:
        made.start()
        live(made)
        yield made
    finally:
        made.stop()


def live(run: Run) -> None:
    link = (run.data / "setup-link").read_text().strip()
    kept = run.secrets
    kept["setup link"] = parse_qs(urlsplit(link).query)["token"][0]
    kept["password"], kept["wrong password"] = PASSWORD, WRONG
    with run.operator() as stranger:
        stranger.get("/setup", params={"token": kept["setup link"]})
        body = {"token": kept["setup link"], "name": "ada", "password": PASSWORD}
        assert stranger.post("/api/v1/setup", json=body).status_code == 201
        assert stranger.post("/api/v1/setup", json=body).status_code == 403
        assert stranger.post("/api/v1/tokens", json={"name": "ada", "password": WRONG}).status_code == 401
        stranger.post("/api/v1/login", json={"name": "ada", "password": 5, "password2": WRONG})
        stranger.post("/api/v1/login", content=json.dumps({"name": "ada", "password": PASSWORD})[:-1].encode(), headers=JSON)
        stranger.request("GET", f"/login/{WRONG}", params={"password": WRONG}, headers={"Authorization": f"Basic {WRONG}"})
    with run.operator() as person:
        signed_in = person.post("/api/v1/login", json={"name": "ada", "password": PASSWORD})
        assert signed_in.status_code == 200, signed_in.text
        person.get("/devices")
        for number, cookie in enumerate(person.cookies.jar):
            kept[f"cookie {cookie.name} {number}"] = str(cookie.value)
        assert all(cookie.secure for cookie in person.cookies.jar)
    with run.operator() as stranger:
        kept["token"] = stranger.post("/api/v1/tokens", json={"name": "ada", "password": PASSWORD}).json()["token"]
        stranger.get("/api/v1/devices", params={"token": kept["token"]})
        stranger.get(f"/api/v1/devices/{kept['token']}")
    with run.operator(kept["token"]) as admin:
        claims = admin.post("/api/v1/claims", json={"count": 2}).raise_for_status().json()
        kept["claim"], kept["unused claim"] = (one["token"] for one in claims["items"])
        admin.post("/api/v1/webhooks", json={"url": "https://hooks.example.org/services/very-secret-path-of-a-hook"})
        admin.post("/api/v1/webhooks", json={"url": "https://user:secret-of-a-hook@hooks.example.org/"})
        cleo_and_a_machine(run, admin)
    kept |= {"webhook": "very-secret-path-of-a-hook", "webhook password": "secret-of-a-hook"}
    enrol(run)
    with run.operator(kept["token"]) as admin:
        device = admin.get("/api/v1/devices").json()["items"][0]["name"]
        for deed in ("readmit", "replace"):
            made = admin.post(f"/api/v1/devices/{device}/{deed}", json={"reason": "its card"}).raise_for_status().json()
            kept[f"claim of {deed}"] = made["claim"]["token"]
    with run.device() as stranger:
        for what in ("claim of readmit", "claim of replace"):
            stranger.post(topics.ENROL, content=b'{"v":1,"claim":"' + kept[what].encode() + b'","csr_pem":""}', headers=JSON)
        stranger.get(topics.STATE, headers={"X-Rookery-Proxy": PROXY, "X-Client-Verify": "SUCCESS", "X-Client-Cert": "x"})
    with run.operator() as stranger:
        kept["code of the provider"], kept["state of the provider"] = "code-of-the-provider", "state-of-the-provider"
        assert stranger.get("/oidc/login").status_code in (401, 503)
        back = {"code": kept["code of the provider"], "state": kept["state of the provider"]}
        assert stranger.get("/oidc/callback", params=back).status_code == 401
    kept |= {"proxy's secret": PROXY, "client secret of the provider": CLIENT}
    slot = run.slot(JPEG)
    kept["signature of an upload"] = parse_qs(urlsplit(slot.url).query)["signature"][0]
    assert run.put(slot, JPEG[:-1] + b"!") == 400
    assert run.put(slot, JPEG) == 201
    with run.device() as stranger:
        stranger.get(f"{urlsplit(slot.url).path}?signature={kept['signature of an upload']}&expires=1")
    for path in [*(run.data / "pki").rglob("*.key"), *(run.data / "keys").iterdir(), run.device_pem]:
        if path.is_file():
            kept[f"key {path.name}"] = heart(path.read_bytes())
    password = run.data / "mosquitto" / "inside-password"
    if password.exists():
        kept["broker"] = password.read_text().strip()


def cleo_and_a_machine(run: Run, admin: httpx.Client) -> None:
    """An invitation, a second factor with its recovery codes, a way back, tokens of a person's own and of a machine's."""
    kept, link = run.secrets, re.compile(r"/welcome\?token=([\w-]+)")
    invited = admin.post("/api/v1/accounts", json={"name": "cleo", "role": "operator"}).raise_for_status().json()["link"]
    kept["invitation"], kept["password of cleo"] = link.search(invited)[1], CLEO  # type: ignore[index]
    with run.operator() as cleo:
        cleo.get("/welcome", params={"token": kept["invitation"]})
        assert cleo.post("/api/v1/welcome", json={"token": kept["invitation"], "password": CLEO}).status_code == 200
        shown = {"name": "cleo", "password": CLEO}
        kept["cleo's own token"] = cleo.post("/api/v1/tokens", json=shown).raise_for_status().json()["token"]
    with run.operator(kept["cleo's own token"]) as cleo:
        begun = cleo.post("/api/v1/account/second-factor", json={"password": CLEO}).raise_for_status().json()
        kept["seed of a second factor"] = begun["secret"]
        code = {"code": pyotp.TOTP(begun["secret"]).now()}
        codes = cleo.post("/api/v1/account/second-factor/confirm", json=code).raise_for_status().json()["recovery_codes"]
        kept |= {f"recovery code {number}": one for number, one in enumerate(codes)}
    with run.operator() as cleo:
        assert cleo.post("/api/v1/login", json=shown | {"code": codes[0] + "x"}).status_code == 401
        assert cleo.post("/api/v1/login", json=shown | {"code": codes[0]}).status_code == 200
        cleo.get("/login", params={"code": codes[1], "name": "cleo"})
    back = server_verb(run, "recover", "cleo")
    assert back.returncode == 0, back.stderr
    kept["way back"] = link.search(back.stdout)[1]  # type: ignore[index]
    with run.operator() as stranger:
        stranger.get("/welcome", params={"token": kept["way back"]})
        stranger.post("/api/v1/welcome", json={"token": kept["way back"], "password": "short"})
    admin.post("/api/v1/accounts", json={"name": "robot", "role": "viewer", "kind": "machine"}).raise_for_status()
    body = {"token_name": "first", "scopes": ["viewer"]}
    kept["token of a machine"] = admin.post("/api/v1/accounts/robot/tokens", json=body).raise_for_status().json()["token"]
    out = run.data.parent / "local-token"
    assert server_verb(run, "token", "--name", "drill", "--role", "viewer", "--out", str(out)).returncode == 0
    kept["token made on the server"] = out.read_text().strip()
    with run.operator(kept["token of a machine"]) as robot:
        robot.get("/api/v1/devices", params={"token": kept["token made on the server"]})


def heart(data: bytes) -> str:
    """What of a key's file would give it away: a line out of the middle of a PEM, or the bytes as they could be written."""
    lines = [line for line in data.splitlines() if b"-----" not in line]
    if b"PRIVATE KEY" in data:
        return lines[0].decode()
    return base64.b64encode(data).decode().rstrip("=")


def enrol(run: Run) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "board")])
    csr = (
        x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    )
    facts = BoardFacts(
        profile="rpi-5",
        board_model="x",
        serial="1",
        machine="aarch64",
        cores=4,
        memory_bytes=2**30,
        runtimes={},
        python="3.11",
        agent_version="0.1.0",
        os="Debian 12",
    )
    with run.device() as door:
        for claim in ("rkc_" + "x" * 32, run.secrets["claim"]):
            answer = door.post(topics.ENROL, content=encode(EnrolRequest(claim=claim, csr_pem=csr, facts=facts)), headers=JSON)
        accepted = decode(EnrolAnswer, answer.raise_for_status().content)
        door.post(
            topics.ENROL, content=b'{"v":1,"claim":"' + run.secrets["unused claim"].encode() + b'","csr_pem":5}', headers=JSON
        )
    run.device_pem = run.data.parent / "device.pem"
    run.device_pem.write_bytes(
        accepted.certificate_pem.encode() + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )


def test_no_secret_of_the_run_stands_in_a_log_an_argument_or_the_audit(run: Run) -> None:
    """Debug logs of both doors, the worker, the broker and the supervisor; what others see of a process; the audit."""
    assert len(run.secrets) > 38, sorted(run.secrets)
    assert all(len(secret) >= 8 for secret in run.secrets.values()), run.secrets.keys()
    places = {
        str(path): path.read_text(errors="replace") for path in [*(run.data / "logs").rglob("*"), run.said] if path.is_file()
    }
    assert {"operator-door.log", "device-door.log", "worker.log"} <= {Path(name).name for name in places}
    assert sum(map(len, places.values())) > 500, "nothing was logged: then nothing was looked at"
    family = run.family()
    assert len(family) >= 4
    places |= {f"arguments {number}": words.decode(errors="replace") for number, words in enumerate(run.command_lines)}
    for _pid, words, environ in family:
        if b"mosquitto" in words:
            places["the broker's environment"] = environ.decode(errors="replace")
    with contextlib.closing(sqlite3.connect(f"file:{run.data / 'of-its-own.sqlite3'}?mode=ro", uri=True)) as database:
        places["audit"] = "\n".join(map(str, database.execute("select * from audit").fetchall()))
        places["signs of sign-in"] = "\n".join(map(str, database.execute("select * from operator_token").fetchall()))
        for table in ("second_factor", "recovery_code", "account_link", "claim"):
            places[f"table {table}"] = "\n".join(map(str, database.execute(f"select * from {table}").fetchall()))
    found = [(what, where) for where, text in places.items() for what, secret in run.secrets.items() if secret in text]
    assert found == []
    assert [where for where, text in places.items() if "PRIVATE KEY-----" in text] == []
    assert "setup" in places["audit"]


def test_what_lies_on_the_disk_is_its_owners_alone_and_check_says_when_it_is_not(run: Run) -> None:
    """Somebody copies the folder back with other modes: ``check`` names each file and what to do."""
    open_to_others = [path for path in run.data.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert run.data.stat().st_mode & 0o077 == 0
    for path in open_to_others:
        text = path.read_bytes().decode(errors="replace")
        assert [what for what, secret in run.secrets.items() if secret in text] == [], path
        assert "PRIVATE KEY" not in text, path
    loose = run.data / "keys" / "web-secret"
    loose.chmod(0o644)
    try:
        said = subprocess.run(
            [sys.executable, "-m", "fleet_server", "check", "--data", str(run.data)],
            capture_output=True,
            text=True,
            check=False,
            env=run.environment,
            timeout=120,
        )
        assert said.returncode == 1
        assert f"{loose} has mode 0644" in said.stdout
        assert "TLS, by this server's own authority" in said.stdout
    finally:
        loose.chmod(0o600)


def test_the_operator_door_speaks_tls_and_takes_up_a_renewed_certificate(run: Run) -> None:
    """Plain HTTP gets nothing; a certificate that was replaced is the one of the next handshake, without a restart."""
    url = run.facts["operator_url"]
    assert url.startswith("https://")
    with pytest.raises(httpx.HTTPError):
        httpx.get(url.replace("https:", "http:") + "/healthz", timeout=30)
    place = (urlsplit(url).hostname or "", urlsplit(url).port or 0)

    def shown() -> bytes:
        with socket.create_connection(place, 30) as plain, run.trust().wrap_socket(plain, server_hostname=place[0]) as tls:
            return tls.getpeercert(binary_form=True) or b""

    # What is no request at all is refused by gunicorn itself: with our headers, and without its page that repeats what was sent.
    with socket.create_connection(place, 30) as plain, run.trust().wrap_socket(plain, server_hostname=place[0]) as tls:
        tls.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n<script>bad header</script>\r\n\r\n")
        said = b"".join(iter(lambda: tls.recv(4096), b""))
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"Content-Security-Policy: default-src 'none'" in said
    assert b"nosniff" in said
    assert b"script" not in said
    assert json.loads(said.partition(b"\r\n\r\n")[2])["status"] == 400
    with run.operator() as client:
        answer = client.get("/login")
        assert answer.headers["Strict-Transport-Security"].startswith("max-age=")
        assert "Secure" in answer.headers["Set-Cookie"]
    before = shown()
    crt = run.data / "pki" / "server.crt"
    assert before == x509.load_pem_x509_certificate(crt.read_bytes()).public_bytes(Encoding.DER)
    renewed = server_verb(run, "pki", "server", "--host", "127.0.0.1", "--host", "localhost", "--host", "fleet.example")
    assert renewed.returncode == 0, renewed.stderr
    new = x509.load_pem_x509_certificate(crt.read_bytes()).public_bytes(Encoding.DER)
    assert new != before
    until(lambda: shown() == new, run.said)


def server_verb(run: Run, *words: str) -> subprocess.CompletedProcess[str]:
    """A verb of ``rookery-server`` over the same folder, with what the server was started with."""
    return subprocess.run(
        [sys.executable, "-m", "fleet_server", *words, "--data", str(run.data)], capture_output=True, text=True, check=False,
        env=run.environment, timeout=120,
    )  # fmt: skip


def test_every_secret_that_the_server_made_itself_can_be_made_anew(run: Run) -> None:
    """Somebody has seen a backup. The files are removed with the server stopped and made anew at its start: old signatures, old
    forms, codes of second factors and the old broker password count no more; devices, tokens and people stay, and who had a
    second factor comes back by a link."""
    names = [f"keys/{name}" for name in ("web-secret", "blob-secret", "factor-key")]
    names += ["mosquitto/inside-password", "pki/server.key", "pki/server.crt"]
    names = [name for name in names if (run.data / name).exists()]
    old = {name: (run.data / name).read_bytes() for name in names}
    data = JPEG + b"2"
    before = run.slot(data)
    with run.operator() as person:
        form = person.get("/login")
        token = form.text.partition('name="csrf_token" value="')[2].partition('"')[0]
        cookies = dict(person.cookies)
    assert token
    run.stop()
    for name in names:
        (run.data / name).unlink()
    run.start()
    assert [name for name in names if (run.data / name).read_bytes() == old[name]] == []
    assert all((run.data / name).stat().st_mode & 0o077 == 0 for name in names if not name.endswith(".crt"))
    assert run.put(before, data) == 403
    assert run.put(run.slot(data), data) == 201
    with run.operator() as person:
        url = f"{run.facts['operator_url']}/login"
        person.cookies.update(cookies)
        sent = person.post("/login", data={"csrf_token": token, "name": "ada", "password": PASSWORD}, headers={"Referer": url})
        assert sent.status_code == 400
    shown = {"name": "cleo", "password": CLEO, "code": run.secrets["recovery code 2"]}
    with run.operator() as cleo, run.operator(run.secrets["token"]) as admin:
        assert cleo.post("/api/v1/login", json=shown).status_code in (401, 503)
        cleo_again = admin.post("/api/v1/accounts/cleo/link", json={"second_factor": True}).raise_for_status().json()["link"]
        token = cleo_again.partition("token=")[2]
        assert cleo.post("/api/v1/welcome", json={"token": token, "password": "the next words of cleo"}).status_code == 200
        assert cleo.post("/api/v1/login", json={"name": "cleo", "password": "the next words of cleo"}).status_code == 200
    with run.operator(run.secrets["token"]) as admin:
        assert admin.get("/api/v1/whoami").json()["name"] == "ada"
        if (run.data / "mosquitto" / "inside-password").exists():
            until(lambda: "ok" in json.dumps(admin.get("/api/v1/overview").json()), run.said)


def test_a_password_in_an_argument_is_refused(tmp_path: Path) -> None:
    """Everybody on the machine reads the list of processes."""
    said = subprocess.run(
        [sys.executable, "-m", "fleet_server", "migrate", "--data", str(tmp_path), "--database", "postgresql://u:hunter22@db/x"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert said.returncode == 2
    assert "ROOKERY_DATABASE_URL_FILE" in said.stderr
    assert "hunter22" not in said.stderr + said.stdout


def test_a_crash_is_written_without_its_secrets() -> None:
    """A thread and a program end by an error whose words hold a token: the trace is there, the token is not."""
    code = (
        "import threading\nfrom ota.redaction import log_redacted\nlog_redacted('%(message)s', 10)\n"
        "def fail(): raise RuntimeError('token=abcdefghijkl rkt_AAAAAAAAAAAAAAAAAAAA')\n"
        "one = threading.Thread(target=fail); one.start(); one.join()\nfail()"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert said.returncode == 1
    assert said.stderr.count("RuntimeError") >= 2
    assert "abcdefghijkl" not in said.stderr.replace(code, "")
    assert "rkt_AAAA" not in said.stderr.replace(code, "")
