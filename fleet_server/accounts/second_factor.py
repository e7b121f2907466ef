"""A person's second factor: time-based codes (RFC 6238), each taken once, and recovery codes for when the telephone is gone."""

from dataclasses import dataclass

import pyotp
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from fleet_server.accounts.sealing import keyed_hash, seal, unseal
from fleet_server.accounts.tables import OperatorRow, RecoveryCodeRow, SecondFactorRow
from fleet_server.errors import ConflictError, InvalidError, SettingsError
from fleet_server.identities import SCOPES

STEP_S = 30
STEPS_AROUND = 1
"""A telephone's clock may be one step off to either side (RFC 6238 §5.2)."""
FREE_FAILURES, FIRST_LOCK_S, LONGEST_LOCK_S = 10, 60.0, 3600.0
"""Wrong codes beside the right password: only who knows it gets here, so this lock is nothing that a stranger can turn."""
RECOVERY_CODES = 10
ISSUER = "Rookery"


@dataclass(frozen=True, slots=True)
class NewFactor:
    """What is shown once, for a telephone to take."""

    secret: str
    uri: str
    """otpauth://…, for the QR code."""


@dataclass(frozen=True, slots=True)
class FactorState:
    """What an account has."""

    confirmed_s: float | None
    recovery_codes_left: int


def required_roles(setting: str) -> frozenset[str]:
    """Which roles must have a second factor, from the setting ``require_second_factor``: none, all, or roles with commas."""
    named = {each.strip() for each in setting.split(",") if each.strip()}
    if named <= {"none"}:
        return frozenset()
    if named == {"all"}:
        return frozenset(SCOPES)
    if not named <= set(SCOPES):
        wrong = min(named - set(SCOPES))
        raise SettingsError(f"require_second_factor: {wrong[:40]!r} is no role", f"none, all, or some of {', '.join(SCOPES)}")
    return frozenset(named)


def state(session: Session, operator_id: int) -> FactorState:
    """Whether the factor is on, and how many recovery codes are left."""
    row = session.get(SecondFactorRow, operator_id)
    left = session.scalar(
        select(func.count()).select_from(RecoveryCodeRow)
        .where(RecoveryCodeRow.operator_id == operator_id, RecoveryCodeRow.used_s.is_(None))
    )  # fmt: skip
    return FactorState(row.confirmed_s if row else None, int(left or 0))


def begin(session: Session, account: OperatorRow, *, secret: str, nonce: bytes, key: bytes, now_s: float) -> NewFactor:
    """A fresh secret that counts only after ``confirm``. ConflictError where a factor is on: remove that first."""
    row = session.get(SecondFactorRow, account.id, with_for_update=True)
    if row is not None and row.confirmed_s is not None:
        raise ConflictError("a second factor is set up already", "remove it first, then set up the new one")
    if row is None:
        row = SecondFactorRow(operator_id=account.id, sealed="", made_s=now_s, last_step=0, failures=0, locked_until_s=0.0)
        session.add(row)
    row.sealed = seal(key, secret, owner=str(account.id), nonce=nonce)
    row.made_s = now_s
    return NewFactor(secret, pyotp.TOTP(secret).provisioning_uri(name=account.name, issuer_name=ISSUER))


def pending(session: Session, account: OperatorRow, *, key: bytes, since_s: float) -> NewFactor | None:
    """The secret that waits to be confirmed: the form is shown again after a wrong code. None once it is on, or older."""
    row = session.get(SecondFactorRow, account.id)
    if row is None or row.confirmed_s is not None or row.made_s < since_s:
        return None
    secret = unseal(key, row.sealed, owner=str(account.id))
    return NewFactor(secret, pyotp.TOTP(secret).provisioning_uri(name=account.name, issuer_name=ISSUER))


def confirm(session: Session, account: OperatorRow, code: str, *, key: bytes, now_s: float) -> bool:
    """Switch the factor on by a first right code. False for a wrong one; InvalidError where none was begun."""
    row = session.get(SecondFactorRow, account.id, with_for_update=True)
    if row is None or row.confirmed_s is not None:
        raise InvalidError("no second factor waits for its first code", "begin at My account, or: rookery account second-factor")
    if not _take(row, code, key=key, now_s=now_s):
        return False
    row.confirmed_s = now_s
    return True


def replace_recovery_codes(session: Session, account: OperatorRow, codes: list[str], *, key: bytes) -> None:
    """These codes and no others; only their hashes are kept."""
    session.execute(delete(RecoveryCodeRow).where(RecoveryCodeRow.operator_id == account.id))
    session.flush()
    session.add_all(RecoveryCodeRow(operator_id=account.id, code_hash=_code_hash(key, code)) for code in codes)


def remove(session: Session, operator_id: int) -> bool:
    """Take factor and recovery codes away; whether there was one."""
    session.execute(delete(RecoveryCodeRow).where(RecoveryCodeRow.operator_id == operator_id))
    row = session.get(SecondFactorRow, operator_id, with_for_update=True)
    if row is None:
        return False
    was_on = row.confirmed_s is not None
    session.delete(row)
    session.flush()
    return was_on


def is_on(session: Session, operator_id: int) -> bool:
    """Whether a code is asked of this account."""
    row = session.get(SecondFactorRow, operator_id)
    return row is not None and row.confirmed_s is not None


def accept(session: Session, operator_id: int, code: str, *, key: bytes, known: bool, now_s: float) -> str | None:
    """What was shown beside a right password: "password" where no factor is on, "code" or "recovery" for a right one, else None.

    Wrong ones are counted in the caller's transaction, which must be committed all the same; after FREE_FAILURES of them no code
    is taken for a while but in a browser that this person has used before (``known``).
    """
    row = session.get(SecondFactorRow, operator_id, with_for_update=True, populate_existing=True)
    if row is None or row.confirmed_s is None:
        return "password"
    if row.locked_until_s > now_s and not known:
        return None
    by = "code" if _take(row, code, key=key, now_s=now_s) else None
    if by is None and _take_recovery(session, operator_id, code, key=key, now_s=now_s):
        by = "recovery"
    if by is not None:
        row.failures, row.locked_until_s = 0, 0.0
        return by
    row.failures += 1
    if row.failures >= FREE_FAILURES:
        row.locked_until_s = now_s + min(FIRST_LOCK_S * 2.0 ** min(row.failures - FREE_FAILURES, 10), LONGEST_LOCK_S)
    return None


def _take(row: SecondFactorRow, code: str, *, key: bytes, now_s: float) -> bool:
    digits = "".join(code.split())
    if not (digits.isascii() and digits.isdigit() and len(digits) == 6):
        return False
    totp = pyotp.TOTP(unseal(key, row.sealed, owner=str(row.operator_id)))
    step_now = int(now_s) // STEP_S
    for step in range(step_now - STEPS_AROUND, step_now + STEPS_AROUND + 1):
        if pyotp.utils.strings_equal(totp.generate_otp(step), digits) and step > row.last_step:
            row.last_step = step
            return True
    return False


def _take_recovery(session: Session, operator_id: int, code: str, *, key: bytes, now_s: float) -> bool:
    row = session.get(RecoveryCodeRow, (operator_id, _code_hash(key, code)), with_for_update=True)
    if row is None or row.used_s is not None:
        return False
    row.used_s = now_s
    return True


def _code_hash(key: bytes, code: str) -> str:
    letters = "".join(letter for letter in code.casefold() if letter.isalnum())
    return keyed_hash(key, letters, purpose="recovery code")
