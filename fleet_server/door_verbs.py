"""``rookery-server nginx`` and ``openapi``: print the proxy's configuration, the device door's description."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from fleet_server import device_openapi
from fleet_server.private_door_http import check_device_door
from fleet_server.proxy_nginx import SECRET_INCLUDE, Place, configuration
from fleet_server.settings import Settings
from fleet_server.settings_checks import check_device_host

_NGINX = "print the nginx configuration of a proxy before the device door, made from this server's settings"
_OPENAPI = "print the device door's OpenAPI description (the operator door serves its own at /openapi.json)"


def add(verbs: Any) -> None:
    """Their arguments."""
    nginx = verbs.add_parser("nginx", help=_NGINX, description=_NGINX)
    nginx.add_argument("--data", metavar="DIR", help="the server's data folder (or ROOKERY_DATA_DIR)")
    nginx.add_argument("--listen", default="", metavar="[ADDRESS:]PORT", help="where nginx listens (as devices are told)")
    nginx.add_argument(
        "--no-client-certificates", action="store_true", help="ask devices for none: they sign their requests instead"
    )  # fmt: skip
    nginx.add_argument(
        "--secret-include", type=Path, default=SECRET_INCLUDE, metavar="FILE",
        help=f"nginx's own file with the line that sets the secret ({SECRET_INCLUDE})",
    )  # fmt: skip
    verbs.add_parser("openapi", help=_OPENAPI, description=_OPENAPI)


def print_description() -> int:
    """The device door in OpenAPI 3.1."""
    sys.stdout.write(json.dumps(device_openapi.document(), indent=1) + "\n")
    return 0


def print_nginx(parsed: argparse.Namespace, settings: Settings) -> int:
    """The proxy's configuration. SettingsError where the settings are not those of a server behind a proxy."""
    check_device_host(settings)
    check_device_door(settings)
    place = Place(parsed.listen, not parsed.no_client_certificates, parsed.secret_include)
    sys.stdout.write(configuration(settings, place))
    return 0
