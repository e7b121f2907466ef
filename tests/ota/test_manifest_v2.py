"""The manifest's second version: files that travel in another form, releases of agents, and version 1 as it always was."""

import json

import msgspec
import pytest

from ota.bundle.errors import BundleError
from ota.bundle.manifest import (
    AGENT,
    PLAIN_VERSION,
    Delta,
    FileEntry,
    Manifest,
    Packed,
    Variant,
    encode_manifest,
    parse_manifest,
    travelling,
    travelling_all,
)

A, B, C, D, E = (letter * 64 for letter in "abcde")
PACKED = FileEntry(
    sha256=A, length_bytes=1000, packed=Packed(sha256=B, length_bytes=600),
    deltas=[Delta(base_sha256=C, sha256=D, length_bytes=80)],
)  # fmt: skip
PLAIN = FileEntry(sha256=E, length_bytes=10)


def model(**changes):
    variant = Variant(id="cpu", accelerator="cpu", runtimes=["litert"], model="m", card="c", files=["m", "c"])
    base = {"name": "yard", "version": "1", "channel": "stable", "counter": 1, "created_s": 1, "hardware": ["*"]}
    return Manifest(**{**base, "variants": [variant], "files": {"m": PACKED, "c": PLAIN}, **changes})


def agent(variant=None, **changes):
    variants = [msgspec.structs.replace(Variant(id="a", abi="cp311", machines=["aarch64"], files=["w.whl"]), **(variant or {}))]
    return model(kind=AGENT, variants=variants, files={"w.whl": PLAIN}, **changes)


def test_what_travels_is_what_the_store_holds():
    manifest = parse_manifest(encode_manifest(model()))
    assert [travelling(manifest.files[path]) for path in ("m", "c")] == [(B, 600), (E, 10)]
    assert travelling_all(manifest, deltas=False) == {B: 600, E: 10}
    assert travelling_all(manifest, deltas=True) == {B: 600, E: 10, D: 80}


def entry(**changes):
    return model(files={"m": msgspec.structs.replace(PACKED, **changes), "c": PLAIN})


WRONG = {
    "another packing": (lambda: entry(packed=Packed(encoding="lzma", sha256=B, length_bytes=6)), "$.files['m'].packed.encoding"),
    "packed larger": (lambda: entry(packed=Packed(sha256=B, length_bytes=1000)), "$.files['m'].packed.length_bytes"),
    "packed is another's content": (lambda: entry(packed=Packed(sha256=E, length_bytes=600)), "$.files['m'].packed"),
    "patch of itself": (
        lambda: entry(deltas=[Delta(base_sha256=A, sha256=D, length_bytes=80)]), "$.files['m'].deltas[0].base_sha256"),
    "patch twice": (lambda: entry(deltas=[PACKED.deltas[0]] * 2), "$.files['m'].deltas[1].base_sha256"),
    "patch larger": (
        lambda: entry(deltas=[Delta(base_sha256=C, sha256=D, length_bytes=600)]), "$.files['m'].deltas[0].length_bytes"),
    "nine patches": (
        lambda: entry(deltas=[Delta(base_sha256=f"{n:064x}", sha256=D, length_bytes=80) for n in range(9)]),
        "$.files[...].deltas"),
    "one content in two forms": (
        lambda: model(files={"m": PACKED, "c": PLAIN, "n": FileEntry(sha256=A, length_bytes=1000)}), "$.files['n']"),
    "signature not listed": (lambda: model(model_signature="model.sig"), "$.model_signature"),
    "statement not listed": (lambda: model(provenance_statement="slsa.json"), "$.provenance_statement"),
    "16 bits": (lambda: model(variants=[msgspec.structs.replace(model().variants[0], word_bits=16)]), "$.variants[0].word_bits"),
    "a model for a Python": (lambda: model(variants=[msgspec.structs.replace(model().variants[0], abi="cp311")]),
                             "$.variants[0].abi"),
    "no runtime": (lambda: model(variants=[msgspec.structs.replace(model().variants[0], runtimes=[])]), "$.variants[0].runtimes"),
    "agent without abi": (lambda: agent({"abi": None}), "$.variants[0].abi"),
    "agent for any machine": (lambda: agent({"machines": []}), "$.variants[0].machines"),
    "agent with a model": (lambda: agent({"model": "w.whl"}), "$.variants[0].model"),
    "agent with labels": (lambda: agent(labels=["person"]), "$.labels"),
    "agent with a budget": (lambda: agent(budget={"latency_ms": 5.0}), "$.budget"),
    "packed in version 1": (lambda: model(v=PLAIN_VERSION), "$.files['m'].packed"),
    "agent in version 1": (lambda: agent({"abi": None}, v=PLAIN_VERSION), "$.kind"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_each_fault_is_named_on_both_ways(name):
    """What a writer refuses a reader refuses too: the bytes are made without the writer's check."""
    make, field = WRONG[name]
    with pytest.raises(BundleError) as caught:
        encode_manifest(make())
    with pytest.raises(BundleError) as read:
        parse_manifest(msgspec.json.encode(make()))
    assert {caught.value.field.split("]")[0], read.value.field.split("]")[0]} == {field.split("]")[0]}


def test_an_agent_release_goes_both_ways():
    manifest = agent()
    assert parse_manifest(encode_manifest(manifest)) == manifest


def test_version_1_keeps_its_bytes():
    """A release that was signed before: read, written again, the same digest; no field in it that version 1 does not have."""
    plain = model(v=PLAIN_VERSION, files={"m": FileEntry(sha256=A, length_bytes=1000), "c": PLAIN})
    data = encode_manifest(plain)
    said = json.loads(data)
    assert said["v"] == 1
    assert said["files"]["m"] == {"sha256": A, "length_bytes": 1000}
    assert not {"model_signature", "provenance_statement"} & set(said)
    assert not {"word_bits", "abi"} & set(said["variants"][0])
    assert encode_manifest(parse_manifest(data)) == data


def test_an_unknown_kind_of_delta_is_passed_over():
    """A later releaser lists patches of another kind: the manifest stands, the board fetches the whole file."""
    later = entry(deltas=[Delta(encoding="adiff", base_sha256=C, sha256=D, length_bytes=80)])
    assert parse_manifest(encode_manifest(later)).files["m"].deltas[0].encoding == "adiff"


def test_a_million_files_are_refused_at_once():
    """A manifest of 90 MB with 10^6 files: refused by its size before anything of it is parsed."""
    line = b'"f000000":{"length_bytes":1,"sha256":"' + b"a" * 64 + b'"},'
    data = b'{"v":2,"files":{' + line * 1_000_000
    with pytest.raises(BundleError, match="the limit for a manifest"):
        parse_manifest(data)


def test_too_many_files_within_the_size_are_refused():
    files = {f"{n}": FileEntry(sha256=f"{n:064x}", length_bytes=1) for n in range(2001)}
    with pytest.raises(BundleError) as caught:
        encode_manifest(model(files={**files, "m": PACKED, "c": PLAIN}))
    assert caught.value.field == "$.files"
