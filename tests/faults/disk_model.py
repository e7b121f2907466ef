"""A disk as a program may rely on it, and no more: what is on it for certain, and what is only on its way.

What the model holds (pessimistic where file systems differ; what ext4, XFS, Btrfs and F2FS all refuse to do is left out):

- **fsync (or fdatasync) of a file** makes its bytes and its length durable, and nothing else: not its name.
- **fsync of a folder** makes durable every change of names in it up to then: new names, renames into it, removals.
  A file whose bytes were never synced may then have its name and no bytes: the zero length file of delayed allocation.
- **rename** is atomic (old file or new one, never neither, never a mixture), but not durable before its target's folder is
  synced. One between two folders is durable with the folder of its new name; what it depends on goes to the disk with it.
- **Everything unsynced is independent**: any later change may be on the disk while an earlier one is not, in whatever order,
  within one file too (a lost piece before a kept one reads as zeros). The journal's order is not relied upon. Only what is
  impossible is left out: a change of a name whose precondition is not on the disk (a rename of a name that is not there, a new
  name where one is, the removal of a folder that is not empty) does not happen either.
- A folder that is not on the disk takes all below it along, synced or not.
- Modes travel with the file; times are no part of a state.
"""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.recording import Kind, Op

Tree = dict[str, tuple[str, int, bytes]]
"""Path -> (dir, file or link, mode bits, bytes or the link's text)."""
ROOT_FOLDER = 0


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """Bytes of one file at one place."""

    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Size:
    """A file cut off, or made longer with zeros."""

    file: int
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """``what`` is add, remove or rename of ``node`` under ``name`` of ``folder`` (for a rename: the new name and the old)."""

    what: str
    folder: int
    name: str
    node: int
    old_folder: int = -1
    old_name: str = ""

    def places(self) -> set[tuple[int, str]]:
        """Every (folder, name) that it touches."""
        return {(self.folder, self.name), (self.old_folder, self.old_name)} - {(-1, "")}


Change = Write | Size | Name


@dataclass(slots=True)
class Content:
    """Folders by number as name -> node, files by number as bytes. A node's kind and mode are known beside it."""

    folders: dict[int, dict[str, int]] = field(default_factory=lambda: {ROOT_FOLDER: {}})
    files: dict[int, bytes] = field(default_factory=dict)

    def copy(self) -> "Content":
        """Another one that may be changed."""
        return Content({number: dict(names) for number, names in self.folders.items()}, dict(self.files))

    def apply(self, change: Change, folders: Collection[int]) -> None:
        """Make a change, or leave it where its precondition does not hold. ``folders`` tells which nodes are folders."""
        if isinstance(change, Write):
            before = self.files.get(change.file, b"").ljust(change.offset, b"\0")
            self.files[change.file] = before[: change.offset] + change.data + before[change.offset + len(change.data) :]
        elif isinstance(change, Size):
            self.files[change.file] = self.files.get(change.file, b"")[: change.length].ljust(change.length, b"\0")
        else:
            self._name(change, folders)

    def _name(self, change: Name, folders: Collection[int]) -> None:
        names = self.folders.setdefault(change.folder, {})
        if change.what == "add":
            names.setdefault(change.name, change.node)
        elif change.what == "remove":
            empty = change.node not in folders or not self.folders.get(change.node)
            if names.get(change.name) == change.node and empty:
                del names[change.name]
        else:
            source = self.folders.get(change.old_folder, {})
            there = names.get(change.name)
            taken = there is not None and there in folders and self.folders.get(there)
            if source.get(change.old_name) == change.node and not taken:
                del source[change.old_name]
                names[change.name] = change.node


class Disk:
    """What is durable, what is pending, and how things look to the program; fed with the lines of a log."""

    def __init__(self, start: Path) -> None:
        self.durable = Content()
        self.pending: list[Change] = []
        self.modes: dict[int, int] = {}
        self.links: dict[int, str] = {}
        self.folders: set[int] = {ROOT_FOLDER}
        self._live = Content()
        self._nodes: dict[int, int] = {}
        self._count = 0
        self._take_in(start, ROOT_FOLDER)
        self.durable = self._live.copy()

    def feed(self, op: Op) -> list[Change]:
        """One line of the log; the changes that it made (pending now), none for a sync."""
        if op.kind is Kind.FSYNC:
            self._sync(op)
            return []
        if op.kind is Kind.SYNC_ALL:
            self._commit(self.pending)
            return []
        if op.kind in (Kind.MARK, Kind.CHMOD):
            if op.kind is Kind.CHMOD:
                self.modes[self._node(op.path)] = op.mode & 0o7777
            return []
        change = self._change(op)
        self._live.apply(change, self.folders)
        self.pending.append(change)
        return [change]

    def state(self, kept: Collection[Change] | None = None, instead: dict[int, Change] | None = None) -> Tree:
        """The tree after a crash now: the durable, and of the pending those that are ``kept`` (None: all).

        ``instead`` maps a place in ``pending`` to what was written there in its stead (a torn write).
        """
        content = self.durable.copy()
        chosen = set() if kept is None else set(map(id, kept))
        for place, change in enumerate(self.pending):
            if kept is None or id(change) in chosen:
                content.apply((instead or {}).get(place, change), self.folders)
        return self._tree(content)

    def live(self) -> Tree:
        """The tree as the program sees it."""
        return self._tree(self._live)

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _tree(self, content: Content) -> Tree:
        found: Tree = {}
        waiting = [("", ROOT_FOLDER)]
        while waiting:
            prefix, folder = waiting.pop()
            for name, node in content.folders.get(folder, {}).items():
                path = prefix + name
                if node in self.folders:
                    found[path] = ("dir", self.modes.get(node, 0o755), b"")
                    waiting.append((path + "/", node))
                elif node in self.links:
                    found[path] = ("link", 0, self.links[node].encode())
                else:
                    found[path] = ("file", self.modes.get(node, 0o644), content.files.get(node, b""))
        return found

    def _change(self, op: Op) -> Change:
        if op.kind is Kind.WRITE:
            return Write(self._file(op), op.offset, op.data)
        if op.kind is Kind.TRUNCATE:
            return Size(self._file(op), op.offset)
        folder, name = self._place(op.path)
        if op.kind in (Kind.CREATE, Kind.MKDIR, Kind.SYMLINK):
            node = self._new(op)
            return Name("add", folder, name, node)
        if op.kind in (Kind.UNLINK, Kind.RMDIR):
            return Name("remove", folder, name, self._node(op.path))
        target_folder, target = self._place(op.other)
        node = self._node(op.path)
        if op.kind is Kind.LINK:
            return Name("add", target_folder, target, node)
        assert op.kind is Kind.RENAME, op
        assert op.mode == 0, "a rename that exchanges is not modelled"
        return Name("rename", target_folder, target, node, folder, name)

    def _sync(self, op: Op) -> None:
        if op.mode & 0o170000 == 0o040000:
            folder = self._node(op.path)
            chosen: list[Change] = [one for one in self.pending if isinstance(one, Name) and one.folder == folder]
            self._commit(self._with_what_they_need(chosen))
        else:
            file = self._file(op)
            self._commit([change for change in self.pending if isinstance(change, Write | Size) and change.file == file])

    def _with_what_they_need(self, chosen: list[Change]) -> list[Change]:
        """In order: those, and every earlier one on the same names, or below a folder that one of them removes."""
        taken = set(map(id, chosen))
        places: set[tuple[int, str]] = set()
        removed: set[int] = set()
        for change in reversed(self.pending):
            if not isinstance(change, Name):
                continue
            if id(change) in taken or change.places() & places or {change.folder, change.old_folder} & removed:
                taken.add(id(change))
                places |= change.places()
                if change.what == "remove" and change.node in self.folders:
                    removed.add(change.node)
        return [change for change in self.pending if id(change) in taken]

    def _commit(self, changes: Collection[Change]) -> None:
        gone = set(map(id, changes))
        for change in [one for one in self.pending if id(one) in gone]:
            self.durable.apply(change, self.folders)
        self.pending = [one for one in self.pending if id(one) not in gone]

    def _place(self, path: str) -> tuple[int, str]:
        parent, _, name = path.rpartition("/")
        return self._node(parent), name

    def _node(self, path: str) -> int:
        node = ROOT_FOLDER
        for part in path.split("/") if path else []:
            node = self._live.folders[node][part]
        return node

    def _file(self, op: Op) -> int:
        # By name where it has one, else (removed while it was open) by the number that the kernel gave it.
        try:
            node = self._node(op.path)
        except KeyError:
            node = self._nodes[op.inode]
        return node

    def _new(self, op: Op) -> int:
        self._count += 1
        node = self._count
        if op.kind is Kind.MKDIR:
            self.folders.add(node)
            for content in (self._live, self.durable):
                content.folders.setdefault(node, {})
        elif op.kind is Kind.SYMLINK:
            self.links[node] = op.other
        else:
            self._nodes[op.inode] = node
        self.modes[node] = op.mode & 0o7777
        return node

    def _take_in(self, start: Path, folder: int) -> None:
        for path in sorted(start.iterdir()):
            self._count += 1
            node = self._count
            self._live.folders[folder][path.name] = node
            stat = path.lstat()
            self.modes[node] = stat.st_mode & 0o7777
            if path.is_symlink():
                self.links[node] = str(path.readlink())
            elif path.is_dir():
                self.folders.add(node)
                self._live.folders[node] = {}
                self._take_in(path, node)
            else:
                self._live.files[node] = path.read_bytes()
                self._nodes[stat.st_ino] = node


def write_tree(tree: Tree, folder: Path) -> None:
    """Put a state on a real disk."""
    folder.mkdir(parents=True)
    base, late = f"{folder}/", []
    for path in sorted(tree):
        kind, mode, data = tree[path]
        target = base + path
        if kind == "dir":
            os.mkdir(target)  # noqa: PTH102 - thousands of trees are written: without pathlib in half the time
            late.append((target, mode))
        elif kind == "link":
            os.symlink(data, target)  # noqa: PTH211
        else:
            handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(handle, data)
            os.fchmod(handle, mode)
            os.close(handle)
    for target, mode in reversed(late):
        if mode != 0o755:
            os.chmod(target, mode)  # noqa: PTH101


def read_tree(folder: Path) -> Tree:
    """A real folder as a tree."""
    return dict(_read(folder, ""))


def _read(folder: Path, prefix: str) -> Iterator[tuple[str, tuple[str, int, bytes]]]:
    for path in folder.iterdir():
        mode = path.lstat().st_mode & 0o7777
        if path.is_symlink():
            yield prefix + path.name, ("link", 0, str(path.readlink()).encode())
        elif path.is_dir():
            yield prefix + path.name, ("dir", mode, b"")
            yield from _read(path, f"{prefix}{path.name}/")
        else:
            yield prefix + path.name, ("file", mode, path.read_bytes())
