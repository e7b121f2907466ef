"""The tables of channels and releases: a cache of the signed metadata, which can be read again at any time."""

from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from fleet_server.database import Base, Json


class ChannelRow(Base):
    """The channel metadata that was last taken over."""

    __tablename__ = "channel"

    channel: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    updated_s: Mapped[float]


class ReleaseRow(Base):
    """One release that a channel's signed metadata lists, or listed once (yanked)."""

    __tablename__ = "release"

    release: Mapped[str] = mapped_column(primary_key=True)
    """name@version"""
    kind: Mapped[str] = mapped_column(server_default="model")
    """model, or agent: the devices' own software."""
    name: Mapped[str]
    version: Mapped[str]
    channel: Mapped[str] = mapped_column(index=True)
    counter: Mapped[int]
    sha256: Mapped[str] = mapped_column(index=True)
    """Of the manifest."""
    path: Mapped[str]
    length_bytes: Mapped[int]
    created_s: Mapped[float]
    published_s: Mapped[float]
    acceptance: Mapped[str | None]
    yanked: Mapped[bool]
    problems: Mapped[list[Any]] = mapped_column(Json)
    manifest: Mapped[str]
    advisory: Mapped[str] = mapped_column(server_default="")
    """Why the server offers it no longer, though the channel's signed metadata still lists it; empty: it does."""


class MetadataSeenRow(Base):
    """The versions of signed metadata that a device has last said to hold."""

    __tablename__ = "metadata_seen"

    device_id: Mapped[str] = mapped_column(primary_key=True)
    versions: Mapped[dict[str, Any]] = mapped_column(Json)
    ahead: Mapped[bool] = mapped_column(index=True)
    """Newer than what was published here when it said so: this server was restored from a backup, or the device lies."""
    at_s: Mapped[float]
