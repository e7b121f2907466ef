"""The refusal as trust's callers know it. Defined below, with the bundle, because its reader refuses by value too."""

from ota.bundle.errors import Refusal

__all__ = ["Refusal"]
