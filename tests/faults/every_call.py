"""Changes a folder by every call that the recorder knows, once each; run above it by its test."""
# The calls themselves are meant.
# ruff: noqa: PTH101, PTH104, PTH108, PTH211

import ctypes
import os
import shutil
import sys
from pathlib import Path

from tests.faults.recording import Recorder


def main(folder: Path, log: Path) -> None:
    """Everything, written down."""
    source = folder.parent / "source"
    source.write_bytes(b"from outside " * 100)
    Recorder().watch(folder, log)
    os.chdir(folder)
    Path("sub/deep").mkdir(parents=True)
    handle = os.open("a", os.O_RDWR | os.O_CREAT, 0o640)
    os.write(handle, b"0123456789")
    os.pwrite(handle, b"XY", 3)
    os.writev(handle, [b"ab", b"cd"])
    os.pwritev(handle, [b"P", b"Q"], 20)  # leaves a hole
    os.fdatasync(handle)
    os.ftruncate(handle, 15)
    os.ftruncate(handle, 18)
    ctypes.CDLL(None).sync_file_range(handle, 0, 0, 4)
    os.close(handle)
    with Path("sub/appended").open("ab") as file:
        file.write(b"one")
    with Path("sub/appended").open("ab") as file:
        file.write(b" two")
    shutil.copyfile(source, "copied")  # sendfile
    reading, writing = os.open(source, os.O_RDONLY), os.open("ranged", os.O_WRONLY | os.O_CREAT)
    os.copy_file_range(reading, writing, 50)
    os.copy_file_range(reading, writing, 20, 5, 60)
    os.close(reading)
    os.close(writing)
    os.truncate("copied", 7)
    Path("truncated").write_bytes(b"long content")
    Path("truncated").write_bytes(b"new")
    os.link("a", "linked")
    os.symlink("a", "pointing")
    os.rename("a", "sub/deep/renamed")
    Path("copied").replace("ranged")
    at = os.open("sub", os.O_RDONLY | os.O_DIRECTORY)
    os.mkdir("made", dir_fd=at, mode=0o700)
    os.close(os.open("created", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=at))
    os.rename("created", "made/moved", src_dir_fd=at, dst_dir_fd=at)
    os.unlink("appended", dir_fd=at)
    os.fsync(at)
    os.close(at)
    with Path("gone").open("wb") as file:
        file.write(b"never seen")
        file.flush()
        os.unlink("gone")
        file.write(b"nor this")
        file.flush()
        os.fsync(file.fileno())
    os.chmod("linked", 0o444)
    Path("empty").mkdir()
    Path("empty").rmdir()
    Path("tree/x").mkdir(parents=True)
    Path("tree/x/file").write_bytes(b"in a tree")
    shutil.rmtree("tree")
    os.sync()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
