"""Tables of the device door: nonces of signed requests, and who asked too often."""

from sqlalchemy.orm import Mapped, mapped_column

from fleet_server.database import Base


class RequestNonceRow(Base):
    """A nonce that one certificate's key has signed; forgotten when its signature is too old to be taken anyway."""

    __tablename__ = "request_nonce"

    serial: Mapped[str] = mapped_column(primary_key=True)
    nonce: Mapped[str] = mapped_column(primary_key=True)
    until_s: Mapped[float] = mapped_column(index=True)


class LimitedRow(Base):
    """A device (or "strangers") that was told to come back later: since when, how often in all, of what there was too much."""

    __tablename__ = "door_limited"

    subject: Mapped[str] = mapped_column(primary_key=True)
    what: Mapped[str] = mapped_column(primary_key=True)
    """requests or uploads."""
    first_s: Mapped[float]
    last_s: Mapped[float] = mapped_column(index=True)
    times: Mapped[int]
    detail: Mapped[str]
