"""Bytes from outside are hostile or broken: each parser reads them or says no in its own words, and never anything else."""

import ast
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.parsers.foreign import OURS_ALONE, PARSERS, TESTED_ELSEWHERE, Parser, any_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("device_agent", "fleet_server", "ota", "models", "provisioning", "hardware")
ALWAYS = (
    b"",
    b"\0",
    b"\xff\xfe\xfa",
    b"{}",
    b"[]",
    b"null",
    b'"x"',
    b"1e999",
    b"NaN",
    b'{"v":1}',
    b'{"v":2}',
    b'{"v":"1"}',
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"v":1,"x":' + b"[" * 50_000,
    b"a = " + b"[" * 50_000,
    b'{"v":1,"\xff":1}',
    b'"\\ud800"',
    b"\r\n" * 500,
    b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    b"9" * 5000,
    b'{"v":' + b"9" * 400 + b"}",
    b"\xef\xbb\xbf{}",
)
"""What is tried on each, whatever is drawn."""


@st.composite
def damaged(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """Right bytes, cut, flipped, doubled, with others put in between; or noise."""
    if not seeds or draw(st.integers(0, 3)) == 0:
        return draw(st.binary(max_size=300) | st.text(max_size=200).map(lambda found: found.encode("utf-8", "surrogatepass")))
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        how = draw(st.integers(0, 4))
        if how == 0:
            data[at] = draw(st.integers(0, 255))
        elif how == 1:
            del data[at:]
        elif how == 2:
            data[at:at] = draw(st.sampled_from([b"\xff", b"\0", b"[", b"{", b'"', b"\n", b"9" * 30, b"-", b"\\ud800", b"null"]))
        elif how == 3:
            data[at : at + draw(st.integers(1, 20))] = b""
        else:
            data += data[at : at + 200]
    return bytes(data)


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="rookery-foreign-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


@pytest.mark.parametrize("parser", PARSERS, ids=[parser.id for parser in PARSERS])
def test_any_bytes_are_read_or_refused_in_words(parser: Parser, folder: Path) -> None:
    """A card that rots, a captured server, a thief with a key, a careless hand: no other error, no crash."""
    for data in (*ALWAYS, *parser.seeds):
        any_of(parser, data, emptied(folder))

    @settings(max_examples=25, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(data=damaged(parser.seeds))
    def any_damage(data: bytes) -> None:
        any_of(parser, data, emptied(folder))

    any_damage()


@pytest.mark.parametrize("parser", [each for each in PARSERS if each.errors], ids=[each.id for each in PARSERS if each.errors])
def test_noise_is_refused_and_not_taken_for_something(parser: Parser, folder: Path) -> None:
    """The other side of it: a parser that takes anything would pass the test above."""
    with pytest.raises(parser.errors):
        parser.call(b"\x00\xff nothing of ours \x01", emptied(folder))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("parser", PARSERS, ids=[parser.id for parser in PARSERS])
def test_fuzz_each_parser_for_long(parser: Parser, folder: Path) -> None:
    @settings(max_examples=1500, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(data=damaged(parser.seeds))
    def any_damage(data: bytes) -> None:
        any_of(parser, data, emptied(folder))

    any_damage()


# Which modules decode bytes

FUNCTIONS = {
    "json.loads",
    "json.load",
    "tomllib.loads",
    "tomllib.load",
    "zipfile.ZipFile",
    "msgspec.json.decode",
    "csv.reader",
    "csv.DictReader",
    "struct.unpack",
    "cv2.imdecode",
    "cv2.VideoCapture",
    "np.load",
    "Metadata.from_bytes",
    "codec.decode",
    "zstandard.ZstdDecompressor",
    "request.get_json",
    "response.json",
    "pickle.loads",
    "yaml.safe_load",
    "ElementTree.fromstring",
}
METHODS = {"unpack_from", "iter_unpack", "imdecode"}
LOADERS = re.compile(r"(^|\.)load_(pem|der)_")


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def decoding_modules() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            tree = ast.parse(path.read_text())
            wire = {
                alias.asname or alias.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and node.module == "ota.wire.codec"
                for alias in node.names
                if alias.name == "decode"
            }
            for node in ast.walk(tree):
                if not isinstance(node, ast.Call):
                    continue
                name = dotted(node.func)
                if name in FUNCTIONS or name in wire or name.rpartition(".")[2] in METHODS or LOADERS.search(name):
                    found.setdefault(module, set()).add(name)
    return found


def test_every_module_that_decodes_bytes_is_tested_or_has_its_reason() -> None:
    """A new parser is added: it comes into the table, or says why no stranger's bytes reach it."""
    decoding = decoding_modules()
    tested = {parser.module for parser in PARSERS} | set(TESTED_ELSEWHERE)
    missing = {module: sorted(names) for module, names in decoding.items() if module not in tested and module not in OURS_ALONE}
    assert missing == {}, "add them to tests/parsers/foreign.py"
    assert set(OURS_ALONE) <= set(decoding), "these decode nothing any more: take them off the list"
    assert not set(OURS_ALONE) & tested


def test_the_tests_that_are_named_are_there() -> None:
    for module, named in TESTED_ELSEWHERE.items():
        file, _, function = named.partition("::")
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
        assert (ROOT / file).is_file(), named
        assert not function or f"def {function}(" in (ROOT / file).read_text(), named
    for parser in PARSERS:
        assert (ROOT / f"{parser.module.replace('.', '/')}.py").is_file(), parser.module
