"""The server's errors, branched by who must act. ``http_errors`` turns each into a status.

``detail`` says what was wrong with this request, ``hint`` what to do about it; both are shown to whoever asked, so neither may
carry a secret or the inside of the server.
"""

from typing import Any


class ServerError(Exception):
    """The trunk of the tree."""

    def __init__(self, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint


class CallerError(ServerError):
    """The caller must change the request."""


class InvalidError(CallerError):
    """The request cannot mean anything: a field is wrong."""


class FaultyError(InvalidError):
    """A document that is wrong in several places: ``faults`` has one {path, problem} for each."""

    def __init__(self, detail: str, faults: list[dict[str, str]], hint: str = "") -> None:
        super().__init__(detail, hint)
        self.faults = faults


class UnauthenticatedError(CallerError):
    """Nobody is signed in, or no client certificate was shown."""


class ClockApartError(UnauthenticatedError):
    """A signed request's time is too far from ours; ``time`` is the signed time, as builtins, for a device to go by."""

    def __init__(self, detail: str, hint: str, time: dict[str, Any]) -> None:
        super().__init__(detail, hint)
        self.time = time


class ForbiddenError(CallerError):
    """We know who asks, and the answer is no."""


class NotFoundError(CallerError):
    """There is no such thing (or it is not the caller's to know of)."""


class ConflictError(CallerError):
    """The request clashes with what is there."""


class TooLargeError(CallerError):
    """More bytes than this route takes."""


class TooManyError(CallerError):
    """Too many attempts; ``retry_after_s`` says when to come back."""

    def __init__(self, detail: str, hint: str = "", retry_after_s: int = 60) -> None:
        super().__init__(detail, hint)
        self.retry_after_s = retry_after_s


class OperatorError(ServerError):
    """Whoever runs the server must act: an argument, a setting, the machine."""


class SettingsError(OperatorError):
    """A setting or argument cannot be used."""


class PortTakenError(OperatorError):
    """A port that was chosen by the operator belongs to another program."""


class AlreadyRunningError(OperatorError):
    """Another server runs over the same data folder."""


class SchemaError(OperatorError):
    """The database's tables are not those of this version of the server."""


class StoreFullError(OperatorError):
    """The blob store or database cannot take more; nothing half-written was left."""


class UnavailableError(ServerError):
    """Nobody need act: something that is needed does not answer at the moment; ``retry_after_s`` says when to ask again."""

    def __init__(self, detail: str, hint: str = "", retry_after_s: int = 5) -> None:
        super().__init__(detail, hint)
        self.retry_after_s = retry_after_s
