"""The queue of crops to verify."""

from sqlalchemy.orm import Mapped, mapped_column

from fleet_server.database import Base


class VerifyJobRow(Base):
    """One crop's second look: ``queued`` may be claimed, ``leased`` belongs to ``owner`` for a while, ``done`` is over."""

    __tablename__ = "verify_job"

    crop_key: Mapped[str] = mapped_column(primary_key=True)
    label: Mapped[str]
    """What the edge called it."""
    state: Mapped[str] = mapped_column(index=True)
    lease_until_s: Mapped[float]
    owner: Mapped[str]
    attempts: Mapped[int]
    created_s: Mapped[float] = mapped_column(index=True)
    note: Mapped[str]
