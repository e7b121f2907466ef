"""Alerts and webhooks for operators."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from fleet_server.alerts import service
from fleet_server.context import context
from fleet_server.errors import InvalidError
from fleet_server.http_access import current_operator, origin, reach_here, require
from fleet_server.http_json import reply, reply_list
from fleet_server.outgoing_http import rule_of, url_problem

operator = APIBlueprint("alerts", __name__, url_prefix="/api/v1")


class AlertsQuery(BaseModel):
    """Which alerts."""

    open: bool = False


class AlertPath(BaseModel):
    """An alert by its id."""

    alert: str = Field(max_length=40)


class WebhookPath(BaseModel):
    """A webhook by its id."""

    webhook: str = Field(max_length=40)


class WebhookBody(BaseModel):
    """An address to tell."""

    url: str = Field(max_length=2000)


@operator.get("/alerts")
@require("viewer", reach="filtered")
def list_alerts(query: AlertsQuery) -> Response:
    """Alerts, newest first; ``open=true`` leaves out those that ended."""
    with context().database.read() as session:
        return reply_list(service.alerts(session, only_open=query.open, groups=reach_here()))


@operator.post("/alerts/<alert>/acknowledge")
@require("operator", reach="filtered")
def post_acknowledge(path: AlertPath) -> Response:
    """Somebody is on it."""
    here = context()
    with here.database.write() as session:
        found = service.acknowledge(
            session, path.alert, who=current_operator().name, now_s=here.clock(), origin=origin(), groups=reach_here()
        )
    return reply(found)


@operator.get("/webhooks")
@require("operator")
def list_webhooks() -> Response:
    """All webhooks."""
    with context().database.read() as session:
        return reply_list(service.webhooks(session))


@operator.post("/webhooks")
@require("admin")
def post_webhook(body: WebhookBody) -> Response:
    """Tell this address of alerts."""
    here = context()
    problem = url_problem(body.url, rule_of(here.settings))
    if problem is not None:
        raise InvalidError(problem)
    with here.database.write() as session:
        made = service.add_webhook(session, body.url, who=current_operator().name, now_s=here.clock(), origin=origin())
    return reply(made, 201)


@operator.delete("/webhooks/<webhook>")
@require("admin")
def delete_webhook(path: WebhookPath) -> Response:
    """Tell it nothing more."""
    here = context()
    with here.database.write() as session:
        service.remove_webhook(session, path.webhook, who=current_operator().name, now_s=here.clock(), origin=origin())
    return Response(status=204)
