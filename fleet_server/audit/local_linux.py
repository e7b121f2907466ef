"""Who sits at the server's own machine, for the audit of its verbs."""

import getpass
import os


def at_the_machine() -> str:
    """``local:ada``, or ``local:root (ada)`` where ada became root by sudo. No account can be called so."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        user = str(os.getuid())
    before = os.environ.get("SUDO_USER", "")
    known = before.isprintable() and 0 < len(before) <= 64 and before != user
    return f"local:{user} ({before})" if known else f"local:{user}"
