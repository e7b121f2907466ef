"""What the routes of enrolment on the operator door are sent: paths, queries and bodies, with their limits. Pure."""

from pydantic import BaseModel, Field

from fleet_server.enrolment.claims import MAX_CLAIMS

MAX_CSV_CHARS = 1_500_000
"""Ten thousand full lines; a request has at most 2 MiB."""
MAX_DECIDED = 200
DAY_S = 86_400.0


class ClaimsBody(BaseModel):
    """How many claims, and what they are bound to."""

    count: int = Field(1, ge=1, le=MAX_CLAIMS)
    profile: str | None = Field(None, max_length=60)
    serial: str | None = Field(None, max_length=64)
    group: str = Field("default", max_length=63)
    device_name: str | None = Field(None, max_length=63)
    expires_in_s: float | None = Field(None, gt=0, le=400 * DAY_S)
    accept: bool = Field(True, description="false: a person decides about each request")


class ClaimsCsvBody(BaseModel):
    """Many claims at once."""

    csv: str = Field(max_length=MAX_CSV_CHARS, description="first line: serial,profile,group,name,expires (any of them)")
    accept: bool = Field(True, description="false: a person decides about each request")


class ClaimsQuery(BaseModel):
    """Which claims."""

    state: str | None = Field(None, description="unused, used, expired or ended")
    q: str = Field("", max_length=100, description="part of an id, serial, name or group")
    limit: int = Field(1000, ge=1, le=1000)
    cursor: str = Field("", max_length=40)


class ClaimPath(BaseModel):
    """One claim."""

    claim: str = Field(max_length=40)


class EnrolmentsQuery(BaseModel):
    """Which requests."""

    state: str | None = Field(None, description="pending, accepted or rejected")
    q: str = Field("", max_length=100, description="part of a serial, id, address or key")
    limit: int = Field(1000, ge=1, le=1000)
    cursor: str = Field("", max_length=40)


class EnrolmentPath(BaseModel):
    """One request."""

    enrolment: str = Field(max_length=40)


class AcceptBody(BaseModel):
    """As what a board is let in; empty: as its claim says."""

    group: str = Field("", max_length=63)
    name: str = Field("", max_length=63)


class ReasonBody(BaseModel):
    """Why."""

    reason: str = Field("", max_length=1000)


class DecideBody(BaseModel):
    """One decision about several requests."""

    enrolments: list[str] = Field(min_length=1, max_length=MAX_DECIDED)
    accept: bool
    group: str = Field("", max_length=63)
    reason: str = Field("", max_length=1000)


class RuleBody(BaseModel):
    """Which boards are let in without a claim and without a person."""

    profile: str = Field("", max_length=60, description="id of a board profile; empty: any")
    serial: str = Field("", max_length=64, description="pattern with * and ?; empty: any")
    group: str = Field("default", max_length=63)
    most_per_day: int = Field(ge=1, le=10_000)
    days: float = Field(30, gt=0, le=400, description="until it ends by itself")


class RulePath(BaseModel):
    """One rule."""

    rule: str = Field(max_length=40)


class RuleTestBody(BaseModel):
    """A board as it would come."""

    serial: str = Field("", max_length=64)
    profile: str = Field("unknown", max_length=60)


class DevicePath(BaseModel):
    """A device's id or unique name."""

    device: str = Field(max_length=100)


class NewKeyBody(BaseModel):
    """A claim for the board of one device."""

    reason: str = Field("", max_length=1000)
    expires_in_s: float | None = Field(None, gt=0, le=400 * DAY_S)


class ReplaceBody(NewKeyBody):
    """A claim for the board that takes a device's place."""

    serial: str | None = Field(None, max_length=64, description="only the board with this serial number may use it")
