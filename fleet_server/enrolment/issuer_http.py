"""This server's certificate authority, as the routes of a running app use it."""

import functools
from pathlib import Path
from typing import cast

from flask import Flask, current_app

from fleet_server.context import context
from fleet_server.enrolment.authority_x509 import Authority
from fleet_server.enrolment.issuing import Heirs, Issuer, Nobody

_HEIRS = "rookery_heirs"


def install_heirs(app: Flask, heirs: Heirs) -> None:
    """Say who must hear of devices that change hands; parts above this one know."""
    app.extensions[_HEIRS] = heirs


@functools.lru_cache(maxsize=8)
def _authority(folder: Path) -> Authority:
    return Authority(folder)


def issuer_here() -> Issuer:
    """The authority, read once per process, and the heirs of this app; the dashboard accepts boards with it too."""
    settings = context().settings
    heirs = cast(Heirs, current_app.extensions.get(_HEIRS) or Nobody())
    return Issuer(_authority(settings.pki_dir), settings.certificate_days, heirs)
