"""The nginx that may stand before the device door: its configuration, made from the server's own settings. Pure."""

from dataclasses import dataclass
from pathlib import Path

from fleet_server.settings import Settings

SECRET_INCLUDE = Path("/etc/nginx/rookery-secret.conf")

_TEMPLATE = """\
# Rookery's device door behind nginx: TLS ends here, certificates of devices are asked for here.
# Made by `rookery-server nginx`; belongs into the http context, as /etc/nginx/conf.d/rookery-device-door.conf say.
# The server beside it: ROOKERY_DEVICE_DOOR_MODE=proxy and {server_side}

upstream rookery_device_door {{
    server {upstream};
    keepalive 32;
}}

server {{
    listen {listen} ssl;
    server_name {name};
    server_tokens off;

    # The server's certificate by the fleet's own authority: that authority is what every board pins.
    ssl_certificate     {pki}/server.crt;
    ssl_certificate_key {pki}/server.key;
    ssl_protocols       TLSv1.2 TLSv1.3;
    # A resumed handshake costs a tenth. What it resumes was verified before; whether a certificate is still good
    # is read from the database at each request, so a revocation does not wait for it.
    ssl_session_cache   shared:rookery:10m;
    ssl_session_timeout 1h;
    ssl_session_tickets off;

{certificates}

    # A client that dawdles costs a connection here and no thread of the server: bodies are taken whole before they go on.
    client_header_timeout 10s;
    client_body_timeout   20s;
    send_timeout          60s;
    keepalive_timeout     75s;
    client_header_buffer_size   2k;
    large_client_header_buffers 4 8k;
    client_max_body_size        16m;  # the largest blob; each message has its own limit behind it

    location / {{
        # No path after the name: what a device signed must arrive as it was sent.
        proxy_pass http://rookery_device_door;
        proxy_http_version 1.1;
        proxy_request_buffering on;
        proxy_read_timeout 120s;

        # One proxy_set_header in a location drops all that it would inherit: keep these together. Each overwrites
        # what a client sent under the same name.
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        proxy_set_header X-Client-Verify  $ssl_client_verify;
        proxy_set_header X-Client-Cert    $ssl_client_escaped_cert;
        proxy_set_header X-Client-Address $remote_addr;
        proxy_set_header X-Forwarded-For  "";
        proxy_set_header Forwarded        "";
{secret}
    }}

    # A certificate that has ended, or is not ours (495): in the words of the door instead of a page.
    error_page 495 =401 @certificate;
    location @certificate {{
        internal;
        default_type application/problem+json;
        return 401 '{problem}';
    }}
}}
"""
_ENDED = (
    '{"type":"about:blank","title":"Sign in first","status":401,'
    '"detail":"the client certificate does not hold: it has ended, or another authority signed it",'
    '"hint":"a board renews an ended certificate by itself; else enrol it again"}'
)
_ASKED = """\
    # Optional: a board that enrols has none yet; the routes demand it. No ssl_crl: nginx reads a list only when it is
    # reloaded, and wants one of the root, too; the database is asked at each request instead.
    ssl_client_certificate {pki}/ca.pem;
    ssl_verify_client      optional;
    ssl_verify_depth       3;"""
_NOT_ASKED = """\
    # No certificates are asked for: boards sign their requests (ROOKERY_SIGNED_REQUESTS=yes, signed_requests = true).
    ssl_verify_client off;"""
_VOUCHED = """\
        # Holds one line: proxy_set_header X-Rookery-Proxy "...";  (mode 0600, root's)
        include {include};"""


@dataclass(frozen=True, slots=True)
class Place:
    """What the settings do not say: where nginx listens, whether it asks for certificates, where its copy of the secret lies."""

    listen: str = ""
    """``[ADDRESS:]PORT``; empty: the port that devices are told."""
    client_certificates: bool = True
    secret_include: Path = SECRET_INCLUDE


def configuration(settings: Settings, place: Place) -> str:
    """The whole file. Over a unix socket the secret is left out unless there is one."""
    private = bool(settings.device_socket)
    needs_secret = not private or bool(settings.proxy_secret)
    host = "127.0.0.1" if settings.listens_everywhere else settings.host
    host = f"[{host}]" if ":" in host else host
    where = f"ROOKERY_DEVICE_SOCKET={settings.device_socket}" if private else "ROOKERY_PROXY_SECRET_FILE=FILE"
    return _TEMPLATE.format(
        server_side=where,
        problem=_ENDED,
        upstream=f"unix:{settings.device_socket}" if private else f"{host}:{settings.device_port}",
        listen=place.listen or str(settings.device_public_port or settings.device_port),
        name=settings.public_host,
        pki=settings.pki_dir,
        certificates=(_ASKED if place.client_certificates else _NOT_ASKED).format(pki=settings.pki_dir),
        secret=_VOUCHED.format(include=place.secret_include) if needs_secret else "",
    )
