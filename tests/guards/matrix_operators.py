"""Guards of the operator door: accounts, roles, groups, browsers, the audit."""

from tests.guards.guard import Guard

GUARDS: tuple[Guard, ...] = ()
