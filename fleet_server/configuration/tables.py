"""The table of configurations: one for the fleet, one for each device that differs."""

from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from fleet_server.database import Base, Json


class ConfigurationRow(Base):
    """``scope`` is ``fleet`` or a device id."""

    __tablename__ = "configuration"

    scope: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    content: Mapped[dict[str, Any]] = mapped_column(Json)
    changed_s: Mapped[float]
    changed_by: Mapped[str]
