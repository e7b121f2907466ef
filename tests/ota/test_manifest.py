"""The manifest: what it refuses by field, and that its bytes are canonical."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ota.bundle.errors import BundleError
from ota.bundle.manifest import FileEntry, Manifest, Variant, encode_manifest, parse_manifest, target_path


def changed(make_manifest, change):
    data = json.loads(encode_manifest(make_manifest()))
    change(data)
    return json.dumps(data).encode()


def put(*path_and_value):
    *path, last, value = path_and_value

    def change(data):
        for step in path:
            data = data[step]
        data[last] = value

    return change


ENTRY = {"sha256": "ab" * 32, "length_bytes": 1}

WRONG = [
    (put("v", 3), "$.v"),
    (put("kind", "firmware"), "$.kind"),
    (put("name", "../etc"), "$.name"),
    (put("name", "acceptance"), "$.name"),
    (put("version", "1/2"), "$.version"),
    (put("channel", "targets"), "$.channel"),
    (put("counter", -1), "$.counter"),
    (put("min_counter", 9), "$.min_counter"),
    (put("hardware", []), "$.hardware"),
    (put("variants", []), "$.variants"),
    (put("variants", 0, "model", "elsewhere.tflite"), "$.variants[0].model"),
    (put("variants", 1, "card", "nothing.toml"), "$.variants[1].card"),
    (put("variants", 0, "files", ["model-a.tflite", "card.toml", "ghost"]), "$.variants[0].files[2]"),
    (put("variants", 0, "files", ["model-a.tflite", "card.toml", "card.toml"]), "$.variants[0].files"),
    (put("variants", 1, "id", "edgetpu"), "$.variants[1].id"),
    (put("variants", 0, "accelerator", "gpu"), "$.variants[0].accelerator"),
    (put("variants", 0, "runtimes", []), "$.variants[0].runtimes"),
    (put("variants", 0, "threads", 0), "$.variants[0].threads"),
    (put("files", "/etc/passwd", ENTRY), "$.files['/etc/passwd']"),
    (put("files", "../up", ENTRY), "$.files['../up']"),
    (put("files", "a/../b", ENTRY), "$.files['a/../b']"),
    (put("files", "a//b", ENTRY), "$.files['a//b']"),
    (put("files", ".hidden", ENTRY), "$.files['.hidden']"),
    (put("files", "a\\b", ENTRY), "$.files['a\\\\b']"),
    (put("files", "a\nb", ENTRY), "$.files['a\\nb']"),
    (put("files", "CARD.toml", ENTRY), "$.files['CARD.toml']"),
    (put("files", "card.toml/inner", ENTRY), "$.files['card.toml/inner']"),
    (put("files", "manifest.json", ENTRY), "$.files['manifest.json']"),
    (put("files", "big", {"sha256": "ab" * 32, "length_bytes": 2**40}), "$.files[...].length_bytes"),
    (put("files", "odd", {"sha256": "AB" * 32, "length_bytes": 1}), "$.files[...].sha256"),
    (put("golden", {"parity": "nowhere.json", "acceptance": None}), "$.golden.parity"),
    (put("golden", {"parity": None, "acceptance": {"path": "../x", "sha256": "ab" * 32}}), "$.golden.acceptance.path"),
    (put("budget", {"latency_ms": 0, "memory_bytes": None}), "$.budget.latency_ms"),
]


@pytest.mark.parametrize(("change", "field"), WRONG, ids=[field for _, field in WRONG])
def test_each_fault_names_its_field(make_manifest, change, field):
    with pytest.raises(BundleError) as caught:
        parse_manifest(changed(make_manifest, change))
    assert caught.value.field == field


def test_two_files_of_one_content_must_agree_on_its_length(make_manifest):
    def change(data):
        data["files"]["twin"] = {**data["files"]["card.toml"], "length_bytes": 5000}

    with pytest.raises(BundleError, match="same content"):
        parse_manifest(changed(make_manifest, change))


def test_too_much_in_all(make_manifest):
    def change(data):
        data["files"].update({f"big-{n}": {"sha256": f"{n:064x}", "length_bytes": 2**31} for n in range(3)})

    with pytest.raises(BundleError, match="bytes in all"):
        parse_manifest(changed(make_manifest, change))


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", b"[]", b"null", b"\xff", b"[" * 200_000, b"{" + b" " * 600_000 + b"}", b'{"v": "1"}']
)
def test_garbage_is_a_bundle_error(data):
    with pytest.raises(BundleError):
        parse_manifest(data)


def test_unknown_fields_are_ignored(make_manifest):
    assert parse_manifest(changed(make_manifest, put("of_a_later_version", {"x": 1}))) == make_manifest()


def test_the_bytes_are_canonical(make_manifest):
    """Sorted keys, no blanks, and a whole number in a fractional field gives the same bytes as the fractional one."""
    data = encode_manifest(make_manifest())
    assert data == json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode()
    whole = json.loads(data)
    whole["budget"]["latency_ms"] = 50
    once = encode_manifest(parse_manifest(json.dumps(whole).encode()))
    whole["budget"]["latency_ms"] = 50.0
    assert once == encode_manifest(parse_manifest(json.dumps(whole).encode()))


def test_writing_holds_to_the_same_rules(make_manifest):
    with pytest.raises(BundleError, match="not listed in files"):
        encode_manifest(msgspec.structs.replace(make_manifest(), files={"other": FileEntry(sha256="ab" * 32, length_bytes=1)}))


words = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)
segments = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,12}", fullmatch=True)
paths = st.lists(segments, min_size=1, max_size=3).map("/".join)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)


@st.composite
def manifests(draw):
    found = draw(st.lists(paths, min_size=2, max_size=8, unique_by=str.casefold))
    files = {
        path: FileEntry(sha256=f"{index:064x}", length_bytes=draw(st.integers(0, 10**6))) for index, path in enumerate(found)
    }
    ids = draw(st.lists(words, min_size=1, max_size=4, unique=True))
    variants = [
        Variant(
            id=one,
            accelerator=draw(st.sampled_from(["edgetpu", "cpu"])),
            runtimes=draw(st.lists(words, min_size=1, max_size=3)),
            machines=draw(st.lists(words, max_size=2)),
            min_memory_bytes=draw(st.integers(0, 2**40)),
            model=found[0],
            card=found[1],
            files=found[:2],
        )
        for one in ids
    ]
    counter = draw(st.integers(0, 2**40))
    return Manifest(
        name=draw(words.filter(lambda one: one != "acceptance")),
        version=draw(words),
        channel="stable",
        counter=counter,
        min_counter=draw(st.integers(0, counter)),
        created_s=draw(st.integers(0, 2**33)),
        hardware=["*"],
        labels=draw(st.lists(st.text(max_size=20), max_size=3)),
        variants=variants,
        files=files,
        provenance=draw(st.dictionaries(st.text(max_size=10), st.text(max_size=30), max_size=3)),
    )


def well_formed(manifest):
    folded = {path.casefold() for path in manifest.files}
    parents = {"/".join(path.split("/")[:n]) for path in folded for n in range(1, path.count("/") + 1)}
    return not folded & parents and "manifest.json" not in folded


@given(manifests().filter(well_formed))
@settings(max_examples=60, deadline=None)
def test_what_was_written_is_what_is_read(manifest):
    data = encode_manifest(manifest)
    assert parse_manifest(data) == manifest
    assert encode_manifest(parse_manifest(data)) == data


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    )
)
@settings(max_examples=80, deadline=None)
def test_any_json_is_a_manifest_or_a_bundle_error(value):
    try:
        parse_manifest(json.dumps(value).encode())
    except BundleError as error:
        field = error.field
    else:
        return
    assert field.startswith("$")


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_manifest_never_escapes_as_another_error(make_manifest_bytes, data):
    damaged = bytearray(make_manifest_bytes)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_manifest(bytes(damaged))
    except BundleError:
        pass


@pytest.fixture(scope="module")
def make_manifest_bytes():
    entry = FileEntry(sha256="ab" * 32, length_bytes=3)
    variant = Variant(id="cpu", accelerator="cpu", runtimes=["litert"], model="m", card="c", files=["m", "c"])
    return encode_manifest(
        Manifest(
            name="yard",
            version="1",
            channel="stable",
            counter=1,
            created_s=1,
            hardware=["*"],
            variants=[variant],
            files={"m": entry, "c": entry},
        )
    )


def test_the_target_of_a_release():
    assert target_path("stable", "yard", "1.2") == "stable/yard/1.2/manifest.json"
