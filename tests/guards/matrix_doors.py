"""Guards of the device door, of enrolment and of the broker."""

from tests.guards.guard import Guard

GUARDS: tuple[Guard, ...] = ()
