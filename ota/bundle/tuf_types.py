"""TUF's types as tuf's documentation names them. One place, because tuf re-exports them without saying so to type checkers."""

from tuf.api.metadata import (  # type: ignore[attr-defined]  # public by tuf's documentation, not listed in an __all__
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

__all__ = ["DelegatedRole", "Delegations", "MetaFile", "Metadata", "Root", "Snapshot", "TargetFile", "Targets", "Timestamp"]
