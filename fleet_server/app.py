"""The two doors: one app for devices (TLS, client certificates), one for operators (pages and API)."""

import importlib
import importlib.util
import logging
from collections.abc import Collection
from functools import partial
from types import ModuleType
from typing import Any, cast

import msgspec
from flask import Flask, Response, request
from flask_limiter import Limiter
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI

from fleet_server import headers_http, http_errors, operator_openapi
from fleet_server.accounts import access
from fleet_server.context import Context
from fleet_server.door_limits import address_key
from fleet_server.enrolment import identity
from fleet_server.enrolment.api import install_heirs
from fleet_server.enrolment.service import end_of_maker
from fleet_server.http_access import install_account_left, install_reach, open_to_all
from fleet_server.inventory import reach
from fleet_server.rollouts.succession import Succession
from fleet_server.settings import MAX_JSON_BYTES

log = logging.getLogger(__name__)

# Every folder with routes: ``api.operator`` stands on the operator door, ``api.device`` on the device door.
FOLDERS = (
    "accounts", "audit", "enrolment", "inventory", "configuration", "blobs", "releases", "rollouts", "experiments",
    "telemetry", "alerts", "logs", "detections", "verification", "planner", "overview", "ingest", "dashboard",
)  # fmt: skip

SIGN_IN_LIMIT = "60 per minute"
"""Per address (IPv6: /64), beside the lock per name: argon2 costs the server 50 ms a try."""

SIGN_IN_ENDPOINTS = frozenset({
    "accounts.post_login", "accounts.post_token", "accounts.post_setup", "dashboard.post_login", "dashboard.post_setup",
    "accounts.post_welcome", "dashboard.post_welcome", "dashboard.oidc_login", "dashboard.oidc_callback",
})  # fmt: skip


def create_device_app(context: Context) -> Flask:
    """The device door."""
    app = Flask("fleet_server.device", static_folder=None)
    app.extensions["rookery"] = context
    app.config["MAX_CONTENT_LENGTH"] = MAX_JSON_BYTES
    http_errors.register(app)
    headers_http.harden_devices(app)
    identity.protect(app)
    install_heirs(app, Succession())
    for module in _apis():
        blueprint = getattr(module, "device", None)
        if blueprint is not None:
            app.register_blueprint(blueprint)
    return app


def create_operator_app(context: Context) -> Flask:
    """The operator door."""
    settings = context.settings
    app = OpenAPI(
        "fleet_server.operator",
        info=Info(title="Rookery fleet server", version="1"),
        doc_ui=False,
        static_folder=None,
        validation_error_status=400,
        validation_error_callback=http_errors.from_validation_error,
    )
    app.extensions["rookery"] = context
    app.config["MAX_CONTENT_LENGTH"] = MAX_JSON_BYTES
    app.config["SECRET_KEY"] = context.web_secret
    # Over TLS the name itself forbids a neighbour's host to set it (RFC 6265bis, __Host-).
    app.config["SESSION_COOKIE_NAME"] = "__Host-rookery_csrf" if settings.operator_over_tls else "rookery_csrf"
    app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    app.config["SESSION_COOKIE_SECURE"] = settings.operator_over_tls
    http_errors.register(app)
    headers_http.harden_operators(app, settings)
    access.protect(app)
    install_heirs(app, Succession())
    install_reach(app, partial(_check_device, context))
    install_account_left(app, end_of_maker)
    _add_open_routes(app)
    for module in _apis():
        blueprint = getattr(module, "operator", None)
        if isinstance(blueprint, APIBlueprint):
            app.register_api(blueprint)
        elif blueprint is not None:
            app.register_blueprint(blueprint)
    _limit_sign_in(app)
    return app


def _check_device(context: Context, id_or_name: str, groups: Collection[str]) -> None:
    with context.database.read() as session:
        reach.check_device(session, id_or_name, groups)


def load_tables() -> None:
    """Import every folder's tables, so that the metadata is complete."""
    _modules("tables")
    importlib.import_module("fleet_server.lease")


def _apis() -> list[ModuleType]:
    return _modules("api")


def _modules(kind: str) -> list[ModuleType]:
    names = [f"fleet_server.{folder}.{kind}" for folder in FOLDERS]
    return [importlib.import_module(name) for name in names if _exists(name)]


def _exists(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its folder does not exist
        return False


def _add_open_routes(app: OpenAPI) -> None:
    def healthz() -> Response:
        return Response(b'{"status":"ok"}', mimetype="application/json")

    def openapi() -> Response:
        return Response(msgspec.json.encode(operator_openapi.document(app)), mimetype="application/json")

    app.add_url_rule("/healthz", "healthz", open_to_all(healthz))
    app.add_url_rule("/openapi.json", "openapi_json", open_to_all(openapi))
    app.add_url_rule("/api/v1/healthz", "healthz_v1", open_to_all(healthz))
    app.add_url_rule("/api/v1/openapi.json", "openapi_json_v1", open_to_all(openapi))


def _caller() -> str:
    return address_key(request.remote_addr or "")


def _limit_sign_in(app: Flask) -> None:
    limiter = Limiter(_caller, app=app, storage_uri="memory://", headers_enabled=False)
    limit = limiter.shared_limit(SIGN_IN_LIMIT, scope="sign-in")
    for endpoint, view in app.view_functions.items():
        if endpoint in SIGN_IN_ENDPOINTS:
            app.view_functions[endpoint] = cast(Any, limit(view))
