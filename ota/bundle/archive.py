"""The byte layout of a ``.rookery`` file that writer and reader agree on. See FORMAT.md."""

import re

SUFFIX = ".rookery"
MANIFEST = "manifest.json"
FILES = "files/"
METADATA = "metadata/"
FIXED_TIME = (1980, 1, 1, 0, 0, 0)
"""Zip's own beginning of time: a bundle carries no clock."""
FILE_ATTRIBUTES = 0o100644 << 16
MAX_ENTRIES = 2200
MAX_METADATA_BYTES = 6 * 1024 * 1024
"""One metadata file; above tuf's own limit for targets (5 MB)."""
CHUNK_BYTES = 256 * 1024

_CONTENT = re.compile(r"files/[0-9a-f]{64}")
_METADATA = re.compile(r"metadata/[A-Za-z0-9][A-Za-z0-9._-]{0,80}\.json")


def is_content(name: str) -> bool:
    """Whether this entry is a content file."""
    return _CONTENT.fullmatch(name) is not None


def is_metadata(name: str) -> bool:
    """Whether this entry is a metadata file."""
    return _METADATA.fullmatch(name) is not None
