"""numpy without the parts that nobody here uses: `random`, `ma`, `polynomial`, `fft`, `ctypeslib` are loaded when first touched.

numpy 2 does the same by itself; numpy 1 loads them all, which is 4 MB in each of the agent's processes. Whoever does use one gets
it then. To be called before numpy is imported for the first time; afterwards it does nothing.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

LATE = frozenset({"numpy.random", "numpy.ma", "numpy.polynomial", "numpy.fft", "numpy.ctypeslib"})


class _LateParts(importlib.abc.MetaPathFinder):
    """Finds these parts as everybody does, but has the standard library's lazy loader load them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in LATE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


def lighten() -> None:
    """From now on the late parts are late. May be called twice."""
    if "numpy" not in sys.modules and not any(isinstance(finder, _LateParts) for finder in sys.meta_path):
        sys.meta_path.insert(0, _LateParts())
