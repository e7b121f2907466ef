"""The identity provider: what it says of itself, where a browser is sent, and who came back (authorization code, PKCE, nonce).

Every address comes from the provider's own document and goes through the guard of outgoing requests; redirects are not followed.
Nothing that the provider answers is shown to whoever signs in.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fleet_server.accounts import chance_linux
from fleet_server.errors import OperatorError, UnauthenticatedError, UnavailableError
from fleet_server.outgoing_http import OutgoingError, exchange, rule_of
from fleet_server.settings import LOOPBACK, Settings

log = logging.getLogger(__name__)

FRESH_S, KEYS_AGAIN_S = 3600.0, 30.0
"""How long the provider's document and keys are kept; how soon they are fetched again for a key that is not among them."""
LEEWAY_S = 60
"""Between the provider's clock and ours."""
LIMIT_BYTES = 512 * 1024
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures by a key pair. ``none`` is none, and HS… would make the client's secret a signing key."""
_CLIENT_AUTH = ("client_secret_basic", "client_secret_post")
REFUSED = "the identity provider's answer was not accepted"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the provider says of itself."""

    authorize_url: str
    token_url: str
    keys_url: str
    client_auth: str
    fetched_s: float


@dataclass(frozen=True, slots=True)
class Leave:
    """A sign-in on its way; all but ``url`` and ``browser`` (a cookie) stays here."""

    url: str
    state: str
    nonce: str
    verifier: str
    browser: str


class Provider:
    """One identity provider, by the settings; made once for an app."""

    def __init__(self, settings: Settings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._monotonic, self._rule = settings, monotonic, rule_of(settings)
        self._lock = threading.Lock()
        self._metadata: Metadata | None = None
        self._keys: tuple[float, dict[str, Any]] | None = None

    def leave(self, redirect_uri: str) -> Leave:
        """Where the browser goes, and what must come back with it. UnavailableError when the provider does not answer well."""
        oauth = _authlib()
        state, nonce, browser, verifier = (chance_linux.session_secret() for _ in range(4))
        url = oauth.grant_uri(
            self._describe().authorize_url, client_id=self._settings.oidc_client_id, response_type="code",
            redirect_uri=redirect_uri, scope=self._settings.oidc_scopes, state=state, nonce=nonce,
            code_challenge=oauth.challenge(verifier), code_challenge_method="S256",
        )  # fmt: skip
        return Leave(str(url), state, nonce, verifier, browser)

    def redeem(self, *, code: str, redirect_uri: str, nonce: str, verifier: str, now_s: float) -> dict[str, Any]:
        """The claims of whoever brought this code; UnauthenticatedError for whatever is wrong with code or token."""
        oauth, found, settings = _authlib(), self._describe(), self._settings
        body = oauth.token_request("authorization_code", code=code, redirect_uri=redirect_uri, code_verifier=verifier)
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        kind = found.client_auth if settings.oidc_client_secret else "none"
        url, headers, body = oauth.client_auth(settings.oidc_client_id, settings.oidc_client_secret, kind).prepare(
            "POST", found.token_url, headers, body
        )
        status, answer = self._ask("POST", url, body.encode(), headers)
        token = answer.get("id_token") if status == 200 else None
        if not isinstance(token, str):
            raise self._refused(f"token endpoint answered {status}, error {str(answer.get('error', ''))[:60]!r}")
        return self._claims(token, answer.get("access_token"), nonce, now_s)

    def _claims(self, token: str, access_token: object, nonce: str, now_s: float) -> dict[str, Any]:
        oauth = _authlib()
        decoded = None
        for again in (False, True):  # a key that we do not know may be a new one: once
            try:
                decoded = oauth.decode(token, self._key_set(again), ALGORITHMS)
                break
            except oauth.unknown_key as error:
                if again:
                    raise self._refused(f"{type(error).__name__}: {error}") from None
            except (oauth.jose_error, ValueError) as error:
                raise self._refused(f"{type(error).__name__}: {error}") from None
        if decoded is None:
            raise self._refused("no key fits")
        issuer, client_id = self._settings.oidc_issuer, self._settings.oidc_client_id
        options = {"iss": {"essential": True, "value": issuer}, "aud": {"essential": True, "value": client_id}}
        params = {"nonce": nonce, "client_id": client_id, "access_token": access_token}
        claims = oauth.id_token(decoded.claims, decoded.header, options, params)
        try:
            claims.validate(now=int(now_s), leeway=LEEWAY_S)
        except (oauth.jose_error, ValueError, TypeError) as error:
            raise self._refused(f"{type(error).__name__}: {error}") from None
        if not isinstance(claims.get("sub"), str) or not 0 < len(claims["sub"]) <= 255:
            raise self._refused("sub is no text of 1 to 255 characters")
        return dict(claims)

    def _describe(self) -> Metadata:
        with self._lock:
            if self._metadata is not None and self._monotonic() - self._metadata.fetched_s < FRESH_S:
                return self._metadata
        issuer = self._settings.oidc_issuer
        status, said = self._ask("GET", issuer.rstrip("/") + "/.well-known/openid-configuration")
        if status != 200 or said.get("issuer") != issuer:
            raise self._unavailable(f"its document answers {status} and names the issuer {str(said.get('issuer'))[:120]!r}")
        places = [said.get(key) for key in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
        if not all(isinstance(place, str) and _safe(place) for place in places):
            raise self._unavailable("its document names an endpoint that is not https")
        methods = said.get("token_endpoint_auth_methods_supported") or _CLIENT_AUTH
        auth = next((method for method in _CLIENT_AUTH if method in methods), _CLIENT_AUTH[0])
        made = Metadata(str(places[0]), str(places[1]), str(places[2]), auth, self._monotonic())
        with self._lock:
            self._metadata = made
        return made

    def _key_set(self, again: bool) -> dict[str, Any]:
        with self._lock:
            kept = self._keys
        age_s = self._monotonic() - kept[0] if kept else FRESH_S
        if kept and age_s < (KEYS_AGAIN_S if again else FRESH_S):
            return kept[1]
        status, keys = self._ask("GET", self._describe().keys_url)
        if status != 200 or not isinstance(keys.get("keys"), list):
            raise self._unavailable(f"its keys answer {status}")
        with self._lock:
            self._keys = (self._monotonic(), keys)
        return keys

    def _ask(
        self, method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        try:
            answer = exchange(method, url, rule=self._rule, content=body, headers=headers, limit_bytes=LIMIT_BYTES)
            said = json.loads(answer.body) if answer.body else {}
        except OutgoingError as error:
            raise self._unavailable(str(error)) from None
        except (ValueError, RecursionError):
            raise self._unavailable("it does not answer with JSON") from None
        return answer.status, said if isinstance(said, dict) else {}

    def _refused(self, why: str) -> UnauthenticatedError:
        log.warning("identity provider %s: sign-in refused: %s", self._settings.oidc_issuer, why)
        return UnauthenticatedError(REFUSED, "begin again; if it stays so, the server's log says why")

    def _unavailable(self, why: str) -> UnavailableError:
        log.warning("identity provider %s: %s", self._settings.oidc_issuer, why)
        return UnavailableError("the identity provider does not answer as it should", "the server's log says why", 30)


def _safe(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)


def _authlib() -> "_Authlib":
    try:
        return _Authlib()
    except ImportError:
        raise OperatorError("oidc_issuer is set, and the extra for it is not installed", "pip install 'rookery[oidc]'") from None


class _Authlib:
    """The pieces of Authlib (and of joserfc, which it stands on) that are used; loaded only where a provider is set."""

    def __init__(self) -> None:
        from authlib.oauth2.auth import ClientAuth  # type: ignore[import-untyped]
        from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request  # type: ignore[import-untyped]
        from authlib.oauth2.rfc7636 import create_s256_code_challenge  # type: ignore[import-untyped]
        from authlib.oidc.core import CodeIDToken  # type: ignore[import-untyped]
        from joserfc import jwt
        from joserfc.errors import InvalidKeyIdError, JoseError
        from joserfc.jwk import KeySet
        from joserfc.jws import JWSRegistry

        self.client_auth: Any = ClientAuth
        self.grant_uri: Any = prepare_grant_uri
        self.token_request: Any = prepare_token_request
        self.challenge: Any = create_s256_code_challenge
        self.id_token: Any = CodeIDToken
        self.jose_error, self.unknown_key = JoseError, InvalidKeyIdError

        def decode(token: str, keys: dict[str, Any], algorithms: list[str]) -> Any:
            registry = JWSRegistry(algorithms=algorithms, strict_check_header=False)
            return jwt.decode(token, key=KeySet.import_key_set(keys), registry=registry)  # type: ignore[arg-type]

        self.decode = decode
