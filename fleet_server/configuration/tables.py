"""The tables of configurations: one layer for the fleet, one for each group and each device that differs; all their versions."""

from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from fleet_server.database import Base, Json


class ConfigurationRow(Base):
    """What a layer says now. ``scope`` is ``fleet``, ``group:NAME`` or ``device:ID``."""

    __tablename__ = "configuration"

    scope: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    content: Mapped[dict[str, Any]] = mapped_column(Json)
    changed_s: Mapped[float]
    changed_by: Mapped[str]
    why: Mapped[str]


class ConfigurationVersionRow(Base):
    """What a layer said at each version; rows are only ever added."""

    __tablename__ = "configuration_version"

    scope: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[dict[str, Any]] = mapped_column(Json)
    changed_s: Mapped[float]
    changed_by: Mapped[str]
    why: Mapped[str]
