"""The table of the audit log."""

from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from fleet_server.database import Base, Json


class AuditRow(Base):
    """One deed. Rows are only added."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    at_s: Mapped[float] = mapped_column(index=True)
    who: Mapped[str] = mapped_column(index=True)
    what: Mapped[str]
    target: Mapped[str] = mapped_column(index=True)
    before: Mapped[dict[str, Any] | None] = mapped_column(Json)
    after: Mapped[dict[str, Any] | None] = mapped_column(Json)
    origin: Mapped[str]
