"""FORMAT.md and the code say the same numbers: somebody else writes bundles by that page alone."""

from pathlib import Path
from typing import Any

import msgspec

from ota.bundle import archive, manifest_types

PAGE = (Path(__file__).resolve().parents[2] / "ota" / "bundle" / "FORMAT.md").read_text()
MIB = 1024 * 1024


def limits() -> dict[str, Any]:
    """Constraints of the manifest's fields, as its readers hold it to them."""
    (schema,), parts = msgspec.json.schema_components([manifest_types.Manifest], ref_template="{name}")
    assert schema
    return parts["Manifest"]["properties"]


def test_the_pages_numbers_are_the_codes() -> None:
    """Container, manifest, fields: each number as a sentence of the page."""
    fields = limits()
    for text in (
        f"At most {archive.MAX_ENTRIES} entries, {archive.MAX_METADATA_FILES} of them metadata, each of those at",
        f"each of those at most {archive.MAX_METADATA_BYTES // MIB} MiB",
        f"at most {manifest_types.LIMIT_BYTES // 1024} KiB",
        f"list, 1–{manifest_types.MAX_VARIANTS} |",
        f"path → file, 1–{manifest_types.MAX_FILES} |",
        f"at most {manifest_types.MAX_FILE_BYTES // 1024**3} GiB each, {manifest_types.MAX_TOTAL_BYTES // 1024**3} GiB in all",
        f"at most {manifest_types.MAX_DELTAS_PER_FILE}: patches",
        f"at most {manifest_types.MAX_PATH_CHARS} characters; no two",
        f"`hardware` | list, 1–{fields['hardware']['maxItems']} |",
        f"`labels` | list, at most {fields['labels']['maxItems']} | class names, each",
        f"class names, each at most {fields['labels']['items']['maxLength']} characters",
        f"`provenance` | text → text, at most {fields['provenance']['maxProperties']} |",
        f"below 2^{(fields['counter']['exclusiveMaximum']).bit_length() - 1}.",
        f"integer < 2^{(fields['created_s']['exclusiveMaximum']).bit_length() - 1} |",
    ):
        assert text in PAGE, text
