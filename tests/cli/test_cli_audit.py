"""`rookery audit` against a real server, and against one whose owner has rewritten the log."""

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from fleet_server.audit import chain, service
from fleet_server.cli.audit_check import Judge, lines_of, read_lines
from tests.cli.conftest import Rookery
from tests.fakes.operator_site import NAME, OperatorSite

ROOT = Path(__file__).resolve().parents[2]


def deeds(site: OperatorSite, count: int, start_s: float | None = None) -> None:
    with site.context.database.write() as session:
        for number in range(count):
            service.record(
                session, who=NAME, what="probe.do", target=f"d-{number % 3}/crop", now_s=(start_s or time.time()) + number,
                before={"state": "running"}, after={"state": "paused"}, origin="10.0.0.7",
            )


def sql(site: OperatorSite, *statements: str) -> None:
    """The owner of the database, who has dropped the triggers."""
    with site.context.database.engine.begin() as connection:
        for one in ("audit_update", "audit_delete", "audit_head_update", "audit_head_delete"):
            connection.execute(text(f"DROP TRIGGER IF EXISTS {one}"))
        for statement in statements:
            connection.execute(text(statement))


def chained_anew(site: OperatorSite, start: int) -> None:
    """Every hash from a row on computed again, and the head with them: what only its owner can do to a log."""
    database = site.context.database
    with database.read() as session:
        last, previous = service.head(session).id, service.hash_at(session, start - 1)
    changed = []
    for line, _ in service.texts(database, start, last):
        previous = chain.hash_of(chain.canonical(json.loads(line) | {"previous": previous}))
        changed.append((json.loads(line)["id"], previous))
    sql(site, *(f"UPDATE audit SET hash = '{said}' WHERE id = {number}" for number, said in changed))
    sql(site, f"UPDATE audit_head SET id = {last}, hash = '{previous}'")


@pytest.fixture
def heads(workplace: Path) -> Path:
    """What this machine remembers; each test begins without it."""
    path = workplace / "audit-heads.json"
    path.unlink(missing_ok=True)
    return path


def test_the_log_is_listed_by_person_target_kind_and_time(signed_in: OperatorSite, rookery: Rookery) -> None:
    deeds(signed_in, 7)
    out = rookery("audit", "list", "--target", "d-1", "--what", "probe").out
    assert "state: running → paused" in out
    assert out.count("d-1/crop") >= 2
    assert "d-2/crop" not in out
    items = json.loads(rookery("-o", "json", "audit", "list", "--who", NAME, "--since", "1h", "--limit", "3").out)["items"]
    assert len(items) == 3
    assert rookery("audit", "list", "--until", "2020-01-01").out.count("\n") == 1
    refused = rookery("audit", "list", "--since", "yesterday")
    assert (refused.code, "is no time" in refused.err) == (2, True)


def test_a_whole_log_is_whole_and_its_end_is_remembered(signed_in: OperatorSite, rookery: Rookery, heads: Path) -> None:
    """The first look remembers; the second finds what the first saw. Of another log nothing is said."""
    deeds(signed_in, 3)
    first = rookery("audit", "verify")
    assert (first.code, "whole" in first.out) == (0, True), first.err
    assert "from now on it remembers" in first.err
    assert heads.stat().st_mode & 0o777 == 0o600
    deeds(signed_in, 3)
    second = rookery("-o", "json", "audit", "verify")
    assert second.code == 0, second.err
    assert "is still there" in second.err
    body = json.loads(second.out)
    assert (body["ok"], body["findings"], body["signed_by"] is not None) == (True, [], True)
    proof = json.loads(heads.read_text())["heads"][signed_in.url]
    assert (proof["id"], proof["hash"]) == (body["last"], body["hash"])
    heads.write_text("{")
    broken = rookery("audit", "verify")
    assert broken.code == 1
    assert "cannot read" in broken.err
    assert heads.read_text() == "{", "what could find a rewritten history is not written over"


def test_a_viewer_verifies_and_security_exports(
    site: OperatorSite, signed_in: OperatorSite, rookery: Rookery, tmp_path: Path
) -> None:
    """Whoever works here can check; to carry the log out takes more, and stands in it."""
    from fleet_server.accounts import service as accounts

    tokens = {}
    with site.context.database.write() as session:
        for role in ("viewer", "security"):
            accounts.add_operator(session, name=f"a-{role}", password_hash="$argon2id$", role=role, now_s=time.time())
            made = accounts.open_grant(session, name=f"a-{role}", kind="token", token_name="t", ttl_s=900.0, now_s=time.time())
            tokens[role] = made.token
    there = {"ROOKERY_SERVER": site.url, "ROOKERY_CONFIG": str(tmp_path / "config.toml")}
    assert rookery("audit", "verify", ROOKERY_TOKEN=tokens["viewer"], **there).code == 0
    refused = rookery("audit", "export", tmp_path / "a.ndjson", ROOKERY_TOKEN=tokens["viewer"], **there)
    assert (refused.code, "security" in refused.err) == (4, True)
    assert rookery("audit", "export", tmp_path / "a.ndjson", ROOKERY_TOKEN=tokens["security"], **there).code == 0
    (last,) = json.loads(rookery("-o", "json", "audit", "list", "--what", "audit.export", "--limit", "1").out)["items"]
    assert last["who"] == "a-security"


def test_an_export_is_whole_goes_on_where_it_broke_and_is_checked_without_a_server(
    signed_in: OperatorSite, rookery: Rookery, tmp_path: Path, heads: Path
) -> None:
    deeds(signed_in, 60)
    assert rookery("audit", "verify").code == 0
    out = tmp_path / "audit.ndjson"
    done = rookery("audit", "export", out)
    assert done.code == 0, done.err
    assert out.stat().st_mode & 0o777 == 0o600
    lines = out.read_bytes().splitlines(keepends=True)
    assert len(lines) > 60
    assert rookery("audit", "export", out).code == 5, "an export replaces nothing"
    assert rookery("audit", "verify", "--file", out, ROOKERY_SERVER="http://127.0.0.1:9").code == 0
    # It broke off in the middle of a line.
    again = tmp_path / "again.ndjson"
    (tmp_path / "again.ndjson.part").write_bytes(b"".join(lines[:20]) + lines[20][:40])
    done = rookery("audit", "export", again)
    assert done.code == 0, done.err
    assert "going on behind row 20" in done.err
    assert again.read_bytes().splitlines()[: len(lines) - 1] == [one.rstrip() for one in lines[:-1]]
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda lines: [lines[0].replace(b'"who":"', b'"who":"x'), *lines[1:]], "does not fit its hash"),
        (lambda lines: lines[:2] + lines[3:], "row 3 is missing"),
        (lambda lines: lines[:-1], "no signed end"),
        (lambda lines: [*lines[:-2], lines[-1]], "the end was cut off"),
        (lambda lines: [*lines[:-1], re.sub(rb'"signature":"(..)', rb'"signature":"00', lines[-1])], "signature"),
        (lambda lines: [*lines, lines[0]], "lines behind the signed end"),
        (lambda lines: [b"[" * 100_000 + b"\n", *lines], "is no line of an audit export"),
        (lambda _: [b""], "no signed end"),
    ],
)
def test_a_spoilt_export_is_found_without_a_server(exported: Path, spoil: Any, said: str) -> None:
    judge = Judge({})
    read_lines(lines_of(spoil(exported.read_bytes().splitlines(keepends=True))), judge)
    assert said in " ".join(one.problem if one.id != 3 else f"row 3 {one.problem}" for one in judge.findings)


def test_a_spoilt_export_ends_with_5_and_says_why(exported: Path, rookery: Rookery, tmp_path: Path) -> None:
    lines = exported.read_bytes().splitlines(keepends=True)
    (tmp_path / "spoilt.ndjson").write_bytes(b"".join(lines[:2] + lines[3:]))
    found = rookery("audit", "verify", "--file", tmp_path / "spoilt.ndjson")
    assert (found.code, "row 3 is missing" in found.err, "BROKEN" in found.out) == (5, True, True), found.err
    missing = rookery("audit", "verify", "--file", tmp_path / "nothing")
    assert (missing.code, "cannot read" in missing.err) == (1, True)


def test_rows_as_a_server_lists_them_that_are_no_rows() -> None:
    """A server that was broken into answers nonsense: findings, no stack trace."""
    for items in ([{}], [{"id": 1}], [{"id": "x", "hash": 3}], [{"id": 1, "at_s": "soon", "hash": None, "who": [], "after": 7}]):
        judge = Judge({})
        for item in items:
            judge.entry(item)
        judge.end({"id": 1, "hash": "0" * 64}, {"signed": {"v": 1}, "key": {}})
        assert judge.findings
        assert judge.head is None


@pytest.fixture(scope="module")
def exported(signed_in: OperatorSite, rookery: Rookery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a short piece of the log, from its beginning."""
    deeds(signed_in, 6)
    out = tmp_path_factory.mktemp("export") / "audit.ndjson"
    done = rookery("audit", "export", out)
    assert done.code == 0, done.err
    return out


def test_the_page_tells_how_to_check_by_hand(exported: Path, tmp_path: Path) -> None:
    """docs/security.md, "Checking the audit by hand": its own lines, run by a shell with sha256sum and openssl, on a true export
    and on one of which a row was changed."""
    page = (ROOT / "docs" / "security.md").read_text().split("## Checking the audit by hand\n", 1)[1].split("\n## ", 1)[0]
    script = "\n".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL))
    lines = exported.read_bytes().splitlines(keepends=True)
    for name, data in (("true", lines), ("false", [lines[0], lines[1].replace(b'"who":"', b'"who":"x'), *lines[2:]])):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "audit.ndjson").write_bytes(b"".join(data))
        done = subprocess.run(
            ["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False, timeout=120, env=dict(os.environ)
        )
        assert (done.returncode == 0) == (name == "true"), done.stdout + done.stderr
        if name == "true":
            assert "Verified OK" in done.stdout
            assert f"{len(lines) - 1} rows follow each other" in done.stdout


# --- what the owner of the database does; last, for the log is of no use afterwards ---


def test_a_history_that_was_chained_anew_is_found_by_who_looked_before(
    signed_in: OperatorSite, rookery: Rookery, heads: Path
) -> None:
    """The owner of the database changes who did it, and computes every hash from there on: the log itself is whole. The machine
    that looked before says which row it knew otherwise; one that never looked cannot."""
    deeds(signed_in, 5)
    assert rookery("audit", "verify").code == 0
    kept = heads.read_bytes()
    sql(signed_in, f"UPDATE audit SET who = 'eve' WHERE id = {json.loads(kept)['heads'][signed_in.url]['id'] - 2}")
    assert rookery("audit", "verify").code == 5, "changed and not chained anew: found by itself"
    assert heads.read_bytes() == kept
    chained_anew(signed_in, 1)
    found = rookery("audit", "verify")
    assert (found.code, "had another hash when this machine looked" in found.err) == (5, True), found.err
    assert heads.read_bytes() == kept, "what was seen is kept until somebody says otherwise"
    deeds(signed_in, 2)
    assert rookery("audit", "verify").code == 5
    heads.unlink()
    assert rookery("audit", "verify").code == 0, "who never looked finds nothing"


def test_an_end_that_was_cut_off_is_found_by_the_head_and_with_the_head_by_who_looked_before(
    signed_in: OperatorSite, rookery: Rookery, heads: Path
) -> None:
    deeds(signed_in, 5)
    assert rookery("audit", "verify").code == 0
    last = json.loads(heads.read_text())["heads"][signed_in.url]["id"]
    sql(signed_in, f"DELETE FROM audit WHERE id > {last - 2}")
    found = rookery("audit", "verify")
    assert (found.code, "the end was cut off" in found.err) == (5, True), found.err
    with signed_in.context.database.read() as session:
        said = service.hash_at(session, last - 2)
    sql(signed_in, f"UPDATE audit_head SET id = {last - 2}, hash = '{said}'")
    found = rookery("audit", "verify")
    assert (found.code, "was put back from an older backup" in found.err) == (5, True), found.err
    begun = rookery("audit", "verify", "--forget")
    assert (begun.code, f"row {last} with hash" in begun.err) == (0, True), begun.err
    assert rookery("audit", "verify").code == 0
