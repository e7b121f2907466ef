"""What can be wrong with a model, told in one kind of error with a machine-readable reason."""

from typing import Literal, get_args

Reason = Literal[
    "missing",  # no such file, or it cannot be read
    "not_a_model",  # some other kind of file
    "corrupt",  # a model file, but damaged or cut short
    "too_large",  # a file, or tensors in it, beyond what any board could hold
    "wrong_hash",  # not the bytes that were promised
    "needs_edgetpu",  # compiled for an Edge TPU and no delegate was named
    "delegate_missing",  # the delegate's library is not there
    "delegate_failed",  # the library is there, the accelerator does not answer
    "wrong_shape",  # the model does not fit its card
    "wrong_task",  # a detector asked to classify or the other way round
    "unsupported",  # an operation that this runtime does not have
    "no_runtime",  # no TFLite runtime works on this machine
    "bad_picture",  # not a picture of the kind that models take
    "failed",  # the interpreter gave up while running
    "closed",  # used after close()
]
REASONS: tuple[str, ...] = get_args(Reason)


class ModelError(Exception):
    """A model that cannot be used; `reason` is one of `REASONS`, the message says what was wrong and what to do."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.message = message

    def __reduce__(self) -> tuple[type["ModelError"], tuple[str, str]]:
        """Errors cross from the inference child to the agent: pickle needs both arguments."""
        return (type(self), (self.reason, self.message))
