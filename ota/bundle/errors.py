"""How the things that travel over the air say no: an error that names the field, or a refusal that is a value."""

from dataclasses import dataclass


class BundleError(ValueError):
    """A manifest or bundle is malformed.

    ``field`` is the path of the wrong field or entry (``$.variants[0].model``, ``files/<sha256>``; ``$`` for the whole),
    ``problem`` says what is wrong with it; of the whole it is said alone.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(problem if field == "$" else f"{field}: {problem}")
        self.field = field
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Refusal:
    """No, and why. ``code`` is one of ``ota.wire.deployments.REASONS``; ``detail`` says it to a person."""

    code: str
    detail: str

    def __str__(self) -> str:
        return f"refused({self.code}): {self.detail}"
