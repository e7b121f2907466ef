"""The agent's errors, as a tree by who must act. Each says what was wrong and, in ``hint``, what to do."""


class AgentError(Exception):
    """Base of all errors that a person may see. ``hint`` is the next step for that person; ``exit_code`` ends the process."""

    exit_code = 70

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def said(self) -> str:
        """The whole message for a terminal: what was wrong, then what to do."""
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


# -- the person who set this board up must act ---------------------------------------------------------------------------


class OwnerError(AgentError):
    """Nothing that the agent retries will help: a person has to change something on the board."""

    exit_code = 2


class SettingsError(OwnerError):
    """agent.toml is wrong. ``faults`` holds every fault found, each with its key."""

    def __init__(self, source: str, faults: list[str]) -> None:
        lines = "".join(f"\n  - {fault}" for fault in faults)
        count = f"{len(faults)} fault{'s' if len(faults) != 1 else ''}"
        super().__init__(f"{source}: {count}:{lines}", "correct the file and start again")
        self.faults = faults


class ClaimRefusedError(OwnerError):
    """The server did not accept this board's claim: unknown, used, expired or bound to another board."""

    exit_code = 3


class IdentityBrokenError(OwnerError):
    """The key or certificate on disk cannot be used."""

    exit_code = 3


# -- the person who runs the server must act -----------------------------------------------------------------------------


class ServerError(AgentError):
    """The server said no, or said something that is not of our wire."""

    exit_code = 4


class ServerRefusedError(ServerError):
    """An answer of class 4xx. ``status`` is the HTTP status, ``kind`` the problem's type, ``detail`` the server's own words."""

    def __init__(self, status: int, kind: str, detail: str, hint: str = "") -> None:
        super().__init__(f"the server refused ({status}): {detail}", hint)
        self.status = status
        self.kind = kind
        self.detail = detail


class ServerNonsenseError(ServerError):
    """The answer is not a message of ours."""


class UntrustedServerError(ServerError):
    """The server's certificate does not chain to the pinned authority: it is another server, or the pin is wrong."""


# -- nobody must act: it passes ------------------------------------------------------------------------------------------


class PassingError(AgentError):
    """An outage: the agent tries again by itself."""

    exit_code = 75


class ServerUnavailableError(PassingError):
    """No connection, a deadline passed, or an answer of class 5xx or 429. ``retry_after_s`` is the server's wish, if any."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message, "the agent keeps trying; check network and server if this lasts")
        self.retry_after_s = retry_after_s


class BrokenOffError(ServerUnavailableError):
    """The server was there, but this exchange was not over in its time, or broke off in its midst: less at once may go."""


# -- the board must be looked at -----------------------------------------------------------------------------------------


class BoardError(AgentError):
    """Disk, camera, model or memory of this board."""

    exit_code = 5


class DiskFullError(BoardError):
    """There is no room to write, and nothing of less value to give up."""
