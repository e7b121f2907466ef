"""Every guard that the matrix switches off."""

from tests.guards import matrix_board, matrix_doors, matrix_identity, matrix_operators, matrix_server
from tests.guards.guard import Guard

GUARDS: tuple[Guard, ...] = (
    *matrix_doors.GUARDS, *matrix_identity.GUARDS, *matrix_operators.GUARDS, *matrix_server.GUARDS, *matrix_board.GUARDS,
)  # fmt: skip
BY_NAME = {guard.name: guard for guard in GUARDS}
SAMPLE = (
    "nonce of the poll", "own hardware", "version of a message", "a sign-in leads nowhere else", "form of a blob's key",
    "a lone device moves numbers a little",
)  # fmt: skip
"""Cheap ones, switched off in the everyday tier, so that the machinery is seen to work."""

HEADING = "## Which guard keeps whom from what"
TABLE_HEAD = "| asset | attacker | guard | shown by |\n|---|---|---|---|\n"


def table() -> str:
    """The table of ``docs/security.md``."""
    return TABLE_HEAD + "".join(guard.row() + "\n" for guard in GUARDS)
