"""A guard of the product, as the matrix knows it: what it protects from whom, how it is switched off, what must notice."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Guard:
    """``old`` stands once in ``file``; with ``new`` in its place the guard is off, and each of ``tests`` must fail.

    ``tests``: ``tests/…/test_x.py::test_y``, without parameters: at least one case of each must fail.
    """

    name: str
    asset: str
    attacker: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    may_hang: bool = False
    """Without it a test may never end, or eat the machine: only then is a run that had to be killed one that noticed."""

    def row(self) -> str:
        """Its line of the table in ``docs/security.md``."""
        tests = ", ".join(f"`{test}`" for test in self.tests)
        return f"| {self.asset} | {self.attacker} | {self.name} | {tests} |"


def off(text: str, guard: Guard) -> str:
    """The source with the guard switched off; ValueError when the patch does not fit, or makes no Python."""
    count = text.count(guard.old)
    if count != 1:
        raise ValueError(f"{guard.name}: what switches it off stands {count} times in {guard.file}, not once")
    patched = text.replace(guard.old, guard.new)
    if guard.file.endswith(".py"):
        compile(patched, guard.file, "exec")
    return patched
