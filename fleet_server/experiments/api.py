"""Experiments for operators."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from fleet_server.context import context
from fleet_server.experiments import service
from fleet_server.http_access import current_operator, origin, reach_here, require
from fleet_server.http_json import reply, reply_list

operator = APIBlueprint("experiments", __name__, url_prefix="/api/v1")


class Selector(BaseModel):
    """Which devices: a group, or devices by id or name; empty means all."""

    group: str | None = None
    devices: list[str] | None = Field(default=None, max_length=10_000)


class ExperimentBody(BaseModel):
    """An experiment to begin."""

    name: str = Field(min_length=1, max_length=100)
    a: str = Field(max_length=200)
    b: str = Field(max_length=200)
    share_b: float = Field(0.5)
    selector: Selector = Field(default_factory=Selector)


class ExperimentPath(BaseModel):
    """An experiment by its id."""

    experiment: str = Field(max_length=40)


@operator.get("/experiments")
@require("viewer", reach="filtered")
def list_experiments() -> Response:
    """Experiments, newest first."""
    with context().database.read() as session:
        return reply_list(service.experiments(session, reach_here()))


@operator.post("/experiments")
@require("operator")
def post_experiment(body: ExperimentBody) -> Response:
    """Begin to compare two releases."""
    here = context()
    with here.database.write() as session:
        made = service.create(
            session, name=body.name, a=body.a, b=body.b, share_b=body.share_b, group=body.selector.group,
            devices=body.selector.devices, who=current_operator().name, now_s=here.clock(), origin=origin(),
        )  # fmt: skip
    return reply(made, 201)


@operator.get("/experiments/<experiment>")
@require("viewer", reach="filtered")
def get_experiment(path: ExperimentPath) -> Response:
    """One experiment with what each side saw."""
    with context().database.read() as session:
        return reply(service.experiment(session, path.experiment, reach_here()))


@operator.post("/experiments/<experiment>/end")
@require("operator")
def post_end(path: ExperimentPath) -> Response:
    """Stop comparing."""
    here = context()
    with here.database.write() as session:
        service.end(session, path.experiment, who=current_operator().name, now_s=here.clock(), origin=origin())
    return Response(status=204)
