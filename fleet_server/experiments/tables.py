"""The tables of experiments and their arms."""

from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from fleet_server.database import Base, Json


class ExperimentRow(Base):
    """Two releases compared on purpose."""

    __tablename__ = "experiment"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    a: Mapped[str]
    b: Mapped[str]
    share_b: Mapped[float]
    selector: Mapped[dict[str, Any]] = mapped_column(Json)
    state: Mapped[str] = mapped_column(index=True)
    created_s: Mapped[float]
    created_by: Mapped[str]
    ended_s: Mapped[float | None]


class ExperimentDeviceRow(Base):
    """One device's side."""

    __tablename__ = "experiment_device"

    experiment_id: Mapped[str] = mapped_column(ForeignKey("experiment.id"), primary_key=True)
    device_id: Mapped[str] = mapped_column(primary_key=True, index=True)
    arm: Mapped[str]
