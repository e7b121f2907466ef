"""Signing in as both the API and the pages do it: look up, check the password outside any transaction, then settle."""

from fleet_server.accounts import service
from fleet_server.accounts.service import Grant
from fleet_server.audit import service as audit
from fleet_server.database import Database
from fleet_server.errors import TooManyError, UnauthenticatedError


def sign_in(
    database: Database, *, name: str, password: str, kind: str, token_name: str, ttl_s: float, now_s: float, origin: str
) -> Grant:
    """A session or token. UnauthenticatedError for a wrong name or password alike, TooManyError while the name is locked."""
    # The attempt is counted before the slow check: a hundred at the same moment are not all let through before the first fails.
    with database.write() as session:
        locked_for_s = service.count_attempt(session, name, now_s)
        found = service.candidate(session, name)
    if locked_for_s > 0:
        raise TooManyError("too many failed attempts under this name", "wait, then try again", round(locked_for_s) + 1)
    fits = service.password_fits(found, password)
    grant: Grant | None = None
    with database.write() as session:
        if fits:  # which also forgets what was counted
            grant = service.open_grant(session, name=name, kind=kind, token_name=token_name, ttl_s=ttl_s, now_s=now_s)
            audit.record(session, who=name, what=f"{kind}.open", target=name, origin=origin, now_s=now_s)
        elif found.password_hash is not None:
            audit.record(session, who=name, what="sign-in.failed", target=name, origin=origin, now_s=now_s)
    if grant is None:
        raise UnauthenticatedError("name or password is wrong")
    return grant
