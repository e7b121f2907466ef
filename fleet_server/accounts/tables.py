"""The tables of accounts: people and machines, their sessions and tokens, second factors, links, identity providers."""

from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from fleet_server.database import Base, Json


class OperatorRow(Base):
    """A person or a machine that may sign in."""

    __tablename__ = "operator"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str] = mapped_column(default="person")
    """person, or machine: has tokens and no password."""
    role: Mapped[str]
    groups: Mapped[list[Any] | None] = mapped_column(Json, default=None)
    """The device groups that the account is limited to; None: all."""
    password_hash: Mapped[str]
    """argon2id; empty: none was set (a machine, or a person who was invited and has not come yet)."""
    password_set_s: Mapped[float | None] = mapped_column(default=None)
    created_s: Mapped[float]
    signed_in_s: Mapped[float | None] = mapped_column(default=None)
    disabled: Mapped[bool] = mapped_column(default=False)


class OperatorTokenRow(Base):
    """A session (a browser's cookie) or an API token. Only the sha256 of the secret is kept."""

    __tablename__ = "operator_token"

    id: Mapped[str] = mapped_column(primary_key=True)
    secret_hash: Mapped[str] = mapped_column(unique=True)
    operator_id: Mapped[int] = mapped_column(ForeignKey("operator.id"), index=True)
    kind: Mapped[str]
    """session or token."""
    name: Mapped[str]
    """What its owner calls a token; the browser of a session."""
    created_s: Mapped[float]
    expires_s: Mapped[float] = mapped_column(index=True)
    seen_s: Mapped[float | None] = mapped_column(default=None)
    """When it was last used, to the minute."""
    proven_s: Mapped[float | None] = mapped_column(default=None)
    """When its owner last showed password and second factor through it; None: by no password (a machine, a provider)."""
    origin: Mapped[str] = mapped_column(default="")
    """Address from which it was opened."""
    by: Mapped[str] = mapped_column(default="password")
    """What opened it: password, code (password and second factor), recovery, oidc, link, admin, server."""
    scopes: Mapped[list[Any] | None] = mapped_column(Json, default=None)
    """What it may do, within the role of its account; None: all that the role may."""
    groups: Mapped[list[Any] | None] = mapped_column(Json, default=None)
    """The device groups that it is limited to, within those of its account; None: those of the account."""


class SetupLinkRow(Base):
    """The one-time link that makes the first admin."""

    __tablename__ = "setup_link"

    secret_hash: Mapped[str] = mapped_column(primary_key=True)
    expires_s: Mapped[float]
    used_s: Mapped[float | None]


class AccountLinkRow(Base):
    """A one-time link that sets the password of one account: an invitation, or the way back in."""

    __tablename__ = "account_link"

    secret_hash: Mapped[str] = mapped_column(primary_key=True)
    operator_id: Mapped[int] = mapped_column(ForeignKey("operator.id"), index=True)
    purpose: Mapped[str]
    """invitation, reset (keeps the second factor) or recovery (removes it)."""
    made_by: Mapped[str]
    expires_s: Mapped[float]
    used_s: Mapped[float | None] = mapped_column(default=None)


class SecondFactorRow(Base):
    """A person's second factor by time-based codes (RFC 6238). The secret is sealed with a key that no database holds."""

    __tablename__ = "second_factor"

    operator_id: Mapped[int] = mapped_column(ForeignKey("operator.id"), primary_key=True)
    sealed: Mapped[str]
    made_s: Mapped[float]
    confirmed_s: Mapped[float | None] = mapped_column(default=None)
    """When a right code was shown; None: it does not count yet."""
    last_step: Mapped[int] = mapped_column(default=0)
    """The 30-second step of the last code that was taken: no code is taken twice."""
    failures: Mapped[int] = mapped_column(default=0)
    """Wrong codes beside the right password since the last sign-in."""
    locked_until_s: Mapped[float] = mapped_column(default=0.0)


class RecoveryCodeRow(Base):
    """A code that stands in for the second factor once."""

    __tablename__ = "recovery_code"

    operator_id: Mapped[int] = mapped_column(ForeignKey("operator.id"), primary_key=True)
    code_hash: Mapped[str] = mapped_column(primary_key=True)
    used_s: Mapped[float | None] = mapped_column(default=None)


class ProviderSubjectRow(Base):
    """Who an identity provider's subject is here."""

    __tablename__ = "provider_subject"

    issuer: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    operator_id: Mapped[int] = mapped_column(ForeignKey("operator.id"), index=True)
    linked_s: Mapped[float]
    ruled: Mapped[bool] = mapped_column(default=False)
    """A rule of the settings made the account: its role and groups follow the provider at each sign-in."""


class ProviderFlowRow(Base):
    """A sign-in that is at the identity provider at the moment; taken out when it comes back, whatever it brings."""

    __tablename__ = "provider_flow"

    state_hash: Mapped[str] = mapped_column(primary_key=True)
    browser_hash: Mapped[str]
    """Of the cookie of the browser that began it: nobody can be signed in by another's answer."""
    nonce: Mapped[str]
    verifier: Mapped[str]
    following: Mapped[str]
    operator_id: Mapped[int | None] = mapped_column(ForeignKey("operator.id"), default=None)
    """The account that is to be connected; None: a sign-in."""
    expires_s: Mapped[float] = mapped_column(index=True)


class SignInFailureRow(Base):
    """Failed sign-ins of one kind: a name from an address, a name in all, a known browser. Only a hash says of which."""

    __tablename__ = "sign_in_failure"

    bucket: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int]
    last_s: Mapped[float] = mapped_column(index=True)
    locked_until_s: Mapped[float]
