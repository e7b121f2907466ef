"""A small identity provider: OpenID Connect with discovery, real signatures, codes that work once, PKCE. It can lie."""

import base64
import functools
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

CLIENT_ID, CLIENT_SECRET = "rookery-fleet", "s3cret-of-the-client"


@functools.cache
def new_key(number: int) -> rsa.RSAPrivateKey:
    """A key, made once in a run: the tests ask for many providers."""
    del number  # only what tells one from the next
    return rsa.generate_private_key(65537, 2048)


def b64(data: bytes) -> str:
    """base64url without padding, as JOSE has it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class OidcProvider:
    """What it believes of whoever comes, and what a test lets it say wrongly."""

    issuer: str = ""
    claims: dict[str, Any] = field(default_factory=lambda: {"sub": "u-1", "preferred_username": "ada"})
    key: rsa.RSAPrivateKey = field(default_factory=lambda: new_key(0))
    kid: str = "k1"
    now: Callable[[], float] = time.time
    change_claims: Callable[[dict[str, Any]], dict[str, Any]] = lambda claims: claims
    change_header: Callable[[dict[str, Any]], dict[str, Any]] = lambda header: header
    change_token: Callable[[str], str] = lambda token: token
    change_document: Callable[[dict[str, Any]], dict[str, Any]] = lambda document: document
    sign_with: rsa.RSAPrivateKey | None = None
    redeemed: list[dict[str, str]] = field(default_factory=list)
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The discovery document."""
        return self.change_document({
            "issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/authorize", "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys", "response_types_supported": ["code"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"], "code_challenge_methods_supported": ["S256"],
        })  # fmt: skip

    def keys(self) -> dict[str, Any]:
        """Its public key."""
        public = self.key.public_key().public_numbers()
        number = lambda value: b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))  # noqa: E731
        return {"keys": [{"kty": "RSA", "use": "sig", "kid": self.kid, "n": number(public.n), "e": number(public.e)}]}

    def authorize(self, query: dict[str, str]) -> str:
        """Sign whoever comes in at once; where the browser goes then."""
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT_ID
        assert query["code_challenge_method"] == "S256"
        assert "openid" in query["scope"].split()
        code = secrets.token_urlsafe(16)
        self._codes[code] = query
        return query["redirect_uri"] + "?" + urlencode({"code": code, "state": query["state"], "iss": self.issuer})

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        """A code for an ID token: once, to the client that it was made for, with the verifier of its challenge."""
        self.redeemed.append(form)
        if authorization != "Basic " + base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode():
            return 401, {"error": "invalid_client"}
        asked = self._codes.pop(form.get("code", ""), None)
        challenge = b64(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if asked is None or asked["code_challenge"] != challenge or asked["redirect_uri"] != form.get("redirect_uri"):
            return 400, {"error": "invalid_grant"}
        now_s = int(self.now())
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now_s, "exp": now_s + 300, "nonce": asked["nonce"], **self.claims}
        return 200, {"token_type": "Bearer", "access_token": "at", "id_token": self.signed(self.change_claims(claims))}

    def signed(self, claims: dict[str, Any]) -> str:
        """A compact JWS."""
        header = self.change_header({"alg": "RS256", "kid": self.kid, "typ": "JWT"})
        text = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
        signature = b"" if header["alg"] == "none" else (self.sign_with or self.key).sign(text.encode(), PKCS1v15(), SHA256())
        return self.change_token(f"{text}.{b64(signature)}")


@contextmanager
def oidc_provider(now: Callable[[], float]) -> Iterator[OidcProvider]:
    """A provider on a free port, ended at the end of the block."""
    provider = OidcProvider(now=now)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path == "/authorize":
                self.send_response(302)
                self.send_header("Location", provider.authorize({key: each[0] for key, each in parse_qs(parts.query).items()}))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            known = {"/.well-known/openid-configuration": provider.document, "/keys": provider.keys}
            self._json(200, known[parts.path]()) if parts.path in known else self._json(404, {})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {key: each[0] for key, each in parse_qs(body).items()}
            self._json(*provider.token(form, self.headers.get("Authorization", "")))

        def _json(self, status: int, said: dict[str, Any]) -> None:
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()
