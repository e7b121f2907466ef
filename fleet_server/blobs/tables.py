"""The table of the upload quota."""

from sqlalchemy.orm import Mapped, mapped_column

from fleet_server.database import Base


class UploadDayRow(Base):
    """Bytes for which a device was given slots in one day (days since 1970, UTC)."""

    __tablename__ = "upload_day"

    device_id: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    length_bytes: Mapped[int]
