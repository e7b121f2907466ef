"""Root at work in a folder of the agent's: what it makes there must be the agent's, or the agent finds its own state locked."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = 0


@contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """Within it root is the user (and group) to whom ``folder`` belongs; whoever is not root stays who he is.

    Files are made as that user's, and whose word is believed (of lists, of hooks) is judged as that user's agent would.
    """
    owner = folder.stat()
    if os.geteuid() != ROOT or owner.st_uid == ROOT:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    try:
        wanted = os.getgrouplist(pwd.getpwuid(owner.st_uid).pw_name, owner.st_gid)
    except KeyError:  # a number without a name
        wanted = [owner.st_gid]
    os.setgroups(wanted)
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(ROOT)
        os.setegid(group)
        os.setgroups(groups)
