"""The refusal as trust's callers know it. It is defined below, with the bundle, because the bundle's reader refuses by value too."""

from ota.bundle.errors import Refusal

__all__ = ["Refusal"]
