"""Errors of the install places, by who must act."""


class SlotError(Exception):
    """A release cannot be installed or switched to; ``code`` is one of ``ota.wire.deployments.REASONS``, the text says why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
