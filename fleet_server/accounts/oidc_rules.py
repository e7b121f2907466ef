"""Who gets an account by signing in at the identity provider, as which role: the setting ``oidc_rules``. Pure.

``CLAIM=VALUE -> ROLE [@GROUP,GROUP]``, rules parted by ``;``; the first that fits decides. VALUE is compared whole; ``*`` alone
is any value; ``*@example.org`` fits e-mail addresses of that domain which the provider calls verified.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fleet_server.errors import SettingsError
from fleet_server.identities import SCOPES
from fleet_server.settings import LOOPBACK, Settings

_RULE = re.compile(r"\s*([A-Za-z0-9_.:/-]{1,100})\s*=\s*(.{1,200}?)\s*->\s*([a-z]+)\s*(?:@\s*(.{1,500}?))?\s*")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._@-]")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule."""

    claim: str
    value: str
    role: str
    groups: tuple[str, ...] | None


def read_rules(text: str) -> tuple[Rule, ...]:
    """The rules in their order; SettingsError names the one that cannot be read."""
    found = []
    for part in filter(str.strip, text.split(";")):
        match = _RULE.fullmatch(part)
        if match is None or match[3] not in SCOPES:
            raise SettingsError(
                f"oidc_rules: {part.strip()[:80]!r} cannot be read",
                f"such as: groups=fleet-admins -> admin; email=*@example.org -> viewer @north. Roles: {', '.join(SCOPES)}",
            )
        groups = tuple(group.strip() for group in match[4].split(",") if group.strip()) if match[4] else None
        if match[2].startswith("*@") and match[1] != "email":
            raise SettingsError(f"oidc_rules: {match[2][:80]!r} is about e-mail addresses", "email=*@example.org -> …")
        found.append(Rule(match[1], match[2], match[3], groups))
    return tuple(found)


def decide(rules: tuple[Rule, ...], claims: Mapping[str, Any]) -> Rule | None:
    """The first rule that fits these claims; None: whoever this is gets no account by itself."""
    return next((rule for rule in rules if _fits(rule, claims)), None)


def _fits(rule: Rule, claims: Mapping[str, Any]) -> bool:
    said = claims.get(rule.claim)
    values = [value for value in (said if isinstance(said, list) else [said]) if isinstance(value, str) and value]
    if rule.claim == "email" and claims.get("email_verified") is not True:
        return False  # anybody may claim any address
    if rule.value == "*":
        return bool(values)
    if rule.value.startswith("*@"):
        return any(value.casefold().rpartition("@")[2] == rule.value[2:].casefold() and value.count("@") == 1 for value in values)
    return rule.value in values


def account_name(claims: Mapping[str, Any]) -> str:
    """What a new account is called: what the provider calls the person, in letters that a name may have."""
    email = claims.get("email") if claims.get("email_verified") is True else None
    for said in (claims.get("preferred_username"), email, claims.get("sub")):
        if isinstance(said, str):
            name = _NOT_IN_NAMES.sub("-", said)[:64].lstrip("._@-")
            if name:
                return name
    return "somebody"


def check_settings(settings: Settings) -> None:
    """SettingsError for settings of the provider that cannot work, or that would be no guard at all."""
    read_rules(settings.oidc_rules)
    issuer = settings.oidc_issuer
    if not issuer:
        return
    parts = urlsplit(issuer)
    plain_is_fine = parts.hostname in LOOPBACK
    if parts.scheme not in ("https", *(["http"] if plain_is_fine else [])) or not parts.hostname or parts.query or parts.fragment:
        raise SettingsError(f"oidc_issuer {issuer[:120]!r} is not an https address without ? and #", "as the provider writes it")
    if not settings.oidc_client_id:
        raise SettingsError("oidc_client_id is missing", "the provider gives it where you register this server as a client")
    if "openid" not in settings.oidc_scopes.split():
        raise SettingsError("oidc_scopes lacks openid", 'such as "openid profile email"')
