"""The tables of operators, their sessions and tokens."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from fleet_server.database import Base


class OperatorRow(Base):
    """A person (or a machine) that may sign in."""

    __tablename__ = "operator"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    password_hash: Mapped[str]
    created_s: Mapped[float]
    disabled: Mapped[bool] = mapped_column(default=False)


class OperatorTokenRow(Base):
    """A session (a browser's cookie) or an API token. Only the sha256 of the secret is kept."""

    __tablename__ = "operator_token"

    id: Mapped[str] = mapped_column(primary_key=True)
    secret_hash: Mapped[str] = mapped_column(unique=True)
    operator_id: Mapped[int] = mapped_column(ForeignKey("operator.id"), index=True)
    kind: Mapped[str]
    name: Mapped[str]
    created_s: Mapped[float]
    expires_s: Mapped[float] = mapped_column(index=True)


class SetupLinkRow(Base):
    """The one-time link that makes the first admin."""

    __tablename__ = "setup_link"

    secret_hash: Mapped[str] = mapped_column(primary_key=True)
    expires_s: Mapped[float]
    used_s: Mapped[float | None]


class SignInFailureRow(Base):
    """Failed sign-ins under one name, known or not."""

    __tablename__ = "sign_in_failure"

    name: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int]
    last_s: Mapped[float]
    locked_until_s: Mapped[float]
