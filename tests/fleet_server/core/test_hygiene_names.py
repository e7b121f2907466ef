"""Names from outside that try to be paths: in every parameter of every route of both doors, in keys, in messages."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import example, given
from hypothesis import strategies as st

from fleet_server.app import create_device_app, create_operator_app
from fleet_server.blob_store import check_key, upload_key
from fleet_server.blobs.store_disk import DiskBlobStore
from fleet_server.context import Context
from fleet_server.http_access import open_to_all

CANARY = b"the canary sings"
UP = "../" * 9


@pytest.fixture
def server(sqlite_server: Context, issuer: Any) -> Context:
    """A server with its authority, whose keys lie where a careless route could read them."""
    assert issuer
    return sqlite_server


@pytest.fixture
def canary(server: Context, tmp_path: Path) -> Path:
    """A file outside of the data folder, and others inside that no route gives out; all say the same."""
    data = server.settings.data_dir
    for path in (
        tmp_path / "canary",
        data / "canary",
        data / "keys" / "canary",
        data / "tuf" / "canary",
        data / "blobs" / "canary",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CANARY)
    return tmp_path / "canary"


def hostile(canary: Path) -> list[str]:
    """One file by many names, as they stand in a URL."""
    plain = f"{UP}{str(canary)[1:]}"
    near = ["../canary", "../../canary", "../keys/canary", "../../keys/canary", "canary", "./canary", "x/../../canary"]
    slashes = ["%2f", "%5c", "\\", "%252f", "%c0%af", "%ef%bc%8f", "%e2%88%95", "//"]
    found = [quote(name) for name in (plain, str(canary), *near)]
    found += [each.replace("/", slash) for each in (plain, *near[:4]) for slash in slashes]
    found += [
        each.replace("..", dots)
        for each in ("../canary", "../keys/canary")
        for dots in ("%2e%2e", "..%00", "....", "..;", "%252e%252e", "..%20")
    ]
    return [
        *found,
        "%00",
        "..",
        ".",
        "...",
        "canary%00.json",
        "canary.",
        "CON",
        "a" * 3000,
        "%ff%fe",
        "%0a",
        "~root",
        "-rf",
        "{}",
        "file:%2f%2f%2fetc%2fpasswd",
    ]


def routes(app: Flask) -> Iterator[tuple[str, list[str]]]:
    for rule in app.url_map.iter_rules():
        if rule.arguments:
            yield rule.rule, sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})


def files_below(folder: Path) -> set[str]:
    """Every file, without the database's and its journals' comings and goings."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if "sqlite3" not in name}


def walk(client: FlaskClient, app: Flask, names: list[str], **more: Any) -> int:
    """Each parameter in turn holds each name."""
    asked = 0
    for rule, methods in routes(app):
        places = re.findall(r"<[^>]+>", rule)
        for place in places:
            # A parameter without slashes is matched before anybody reads it: every fifth name does.
            for name in names if "path:" in place else names[::5]:
                path = rule.replace(place, name)
                for other in places:
                    path = path.replace(other, "abc")
                for method in methods:
                    # The test client would tidy the path up: the WSGI server gives it as it came.
                    answer = client.open(path, method=method, buffered=False, **more)
                    where = f"{method} {rule} {name[:60]}: {answer.status}"
                    assert answer.status_code < 500 or answer.status_code == 503, where
                    assert CANARY not in (b"" if answer.mimetype == "text/event-stream" else answer.data), where
                    answer.close()
                    asked += 1
    return asked


def test_no_name_in_a_path_of_the_operator_door_leads_to_a_file(
    sign_in: Callable[[str], FlaskClient], server: Context, canary: Path, tmp_path: Path
) -> None:
    """An admin's own token in the hands of a thief: it opens what admins may, and no file of the server beside that."""
    before = files_below(tmp_path)
    client = sign_in("admin")
    assert walk(client, client.application, hostile(canary), json={}) > 1000
    assert files_below(tmp_path) == before
    assert canary.read_bytes() == CANARY


def test_no_name_in_a_path_of_the_device_door_leads_to_a_file(
    server: Context, enrolled: Any, canary: Path, tmp_path: Path
) -> None:
    """A board that was broken into asks for metadata, bundles and blobs by names of its own."""
    app = create_device_app(replace(server, certificate_of=lambda _environ: enrolled.der))
    before = files_below(tmp_path)
    assert walk(app.test_client(), app, hostile(canary), data=b"{}", content_type="application/json") > 100
    assert files_below(tmp_path) == before


def test_no_name_in_a_message_leads_to_a_file(
    sign_in: Callable[[str], FlaskClient], server: Context, canary: Path, tmp_path: Path
) -> None:
    """Names that people or boards give to things (devices, groups, claims, releases, channels) are words, never paths."""
    client, before = sign_in("admin"), files_below(tmp_path)
    for name in ("../canary", str(canary), "..\\canary", "a/../../canary", "\x00", "..", "a" * 5000, ".", "con", "／..／canary"):
        for path, body in (
            ("/api/v1/claims", {"count": 1, "name": name, "group": name}),
            ("/api/v1/rollouts", {"release": name, "stages": [1.0]}),
            ("/api/v1/experiments", {"name": name, "a": name, "b": name}),
            (f"/api/v1/configurations/group:{quote(name, safe='')}", {"text": "", "why": name}),
            ("/api/v1/releases", {"channel": name, "manifest": name}),
        ):
            for method in ("POST", "PUT"):
                answer = client.open(path, method=method, json=body)
                assert answer.status_code < 500, (method, path, answer.status)
                assert CANARY not in answer.data
    assert files_below(tmp_path) == before


@given(
    st.text(max_size=80)
    | st.lists(st.sampled_from(["..", ".", "a", "/", "\\", "\x00", "%2e", "~", "-", "_", " "]), max_size=9).map("".join)
)
@example("d-1/../../x")
@example("d-1/..")
@example("/etc/passwd")
@example("d-1//x")
@example("d-1/x\x00")
@example("d-1/x\n")
def test_a_key_is_below_its_device_or_none(key: str) -> None:
    """Whatever a key says, the file that it names lies in the store, below the folder of its device."""
    try:
        good = check_key(key)
    except ValueError:
        return
    path = Path(os.path.normpath(Path("/store", good)))
    assert path.parts[:2] == ("/", "store")
    assert path.parts[2] == good.partition("/")[0]
    assert str(path) == f"/store/{good}"


@given(st.text(max_size=30), st.text(max_size=30))
def test_an_upload_never_leaves_the_folder_of_its_device(name: str, purpose: str) -> None:
    try:
        key = upload_key("d-1", purpose, name, "a" * 64)
    except ValueError:
        return
    assert os.path.normpath(key) == key
    assert key.startswith("d-1/")


def test_a_link_that_somebody_laid_into_the_store_is_not_followed_out_of_it_by_a_listing(tmp_path: Path) -> None:
    """Only the server writes into its store; a folder that is a link is no part of a listing all the same."""
    store = DiskBlobStore(tmp_path / "blobs", secret=b"s" * 32, base_url="https://x", clock=lambda: 1000.0)
    outside = tmp_path / "outside" / "crop" / "e1"
    outside.mkdir(parents=True)
    (outside / ("a" * 64)).write_bytes(msgspec.json.encode({"type": "image/jpeg", "length": 1, "sha256": "a" * 64}) + b"\nx")
    (tmp_path / "blobs" / "by-key" / "d-1").symlink_to(tmp_path / "outside")
    assert store.list("d-1/") == []


def test_the_walk_would_find_a_route_that_reads_what_it_is_named(server: Context, canary: Path) -> None:
    """The test above can fail: a route that joins its parameter to a folder gives the canary away, and is found."""
    app = create_operator_app(server)

    def careless(name: str) -> bytes:
        try:
            return (server.settings.data_dir / "static" / name).resolve().read_bytes()
        except (OSError, ValueError):
            return b""

    app.add_url_rule("/careless/<path:name>", "careless", open_to_all(careless))
    (server.settings.data_dir / "static").mkdir()
    with pytest.raises(AssertionError, match="careless"):
        walk(app.test_client(), app, ["../canary", "..%2fcanary"])
