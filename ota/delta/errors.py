"""What packed bytes can be wrong in."""


class DeltaError(ValueError):
    """Packed bytes or a patch cannot be decoded, or would break a cap; the message says which."""


class Stopped(Exception):  # noqa: N818  # not a fault of the bytes: the caller's deadline or wish
    """``should_stop`` said yes in the middle of a stream."""
