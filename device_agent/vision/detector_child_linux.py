"""The inference child: loads models and looks at frames in shared memory, one request after the other.

Started with `python -P -m`, never forked: a fork would carry the agent's threads, camera and accelerator along half alive.
It never loads OpenCV for a model that takes bytes: pictures come at the model's size and in its colours.
It ends when its socket closes, and the kernel kills it when the agent dies while it is busy.
"""

import ctypes
import importlib
import json
import mmap
import os
import signal
import socket
import sys
from pathlib import Path
from typing import cast

import numpy as np

from device_agent.vision import detector_wire as wire
from device_agent.vision.detector import Model, ModelSpec, OpenModel, PlainModel, first_answer
from device_agent.vision.types import Picture
from models.card import load_card
from models.inference.errors import ModelError

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""
RECEIVE_BYTES = 4096


def main(argv: list[str] | None = None) -> int:
    """Serve requests until the agent closes the socket. `argv`: its process id, opener, and the fds of socket and slots."""
    # The agent's own words, in its own order: a parser of arguments would be nearly half a megabyte here.
    parent, opener, talk_fd, *slots = sys.argv[1:] if argv is None else argv
    _die_with(int(parent))
    # Ctrl-C and systemd's stop reach the whole group: the agent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.socket(fileno=int(talk_fd)) as talk:
        _Server(talk, [_Slot(int(fd)) for fd in slots], _opener(opener)).serve()
    return 0


class _Slot:
    """One shared frame: mapped anew when the agent has made it larger."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._map: mmap.mmap | None = None
        self._view: Picture | None = None

    def picture(self, height_px: int, width_px: int) -> Picture:
        view = self._view
        if view is not None and view.shape == (height_px, width_px, 3):
            return view
        needed = height_px * width_px * 3
        if self._map is None or len(self._map) < needed:
            self._map = mmap.mmap(self._fd, os.fstat(self._fd).st_size, prot=mmap.PROT_READ)
        self._view = np.frombuffer(self._map, np.uint8, needed).reshape(height_px, width_px, 3)
        return self._view


class _Server:
    """Holds the one model that answers."""

    def __init__(self, talk: socket.socket, slots: list[_Slot], open_model: OpenModel) -> None:
        self._talk = talk
        self._slots = slots
        self._open_model = open_model
        self._model: Model | None = None
        self._plain: PlainModel | None = None
        self._inbox = wire.Inbox()

    def serve(self) -> None:
        while (message := self._receive()) is not None:
            kind, payload = message
            try:
                reply = self._look(payload) if kind == wire.LOOK else self._load(payload)
            except ModelError as error:
                reply = wire.pack_refused(error)
            self._talk.sendall(reply)

    def _receive(self) -> tuple[int, bytes] | None:
        """The next request, None when the agent has gone."""
        message = None
        while message is None:
            try:
                part = self._talk.recv(RECEIVE_BYTES)
            except ConnectionResetError:
                return None
            if not part:
                return None
            message = self._inbox.whole(part)
        return message

    def _load(self, payload: bytes) -> bytes:
        """Load a model beside the present one; only when it has answered once does it take its place."""
        request = json.loads(payload)
        card = load_card(request["card"])
        how = (request["threads"], request["delegate"], request["runtime"], request["sha256"])
        spec = ModelSpec(Path(request["model"]), card, *how)
        new = self._open_model(spec)
        try:
            first_ms = first_answer(new, card)
        except ModelError:
            new.close()
            raise
        old, self._model = self._model, new
        self._plain = new if isinstance(new, PlainModel) and new.plain else None
        if old is not None:
            old.close()
        return wire.pack_ready(wire.Ready(new.runtime, new.accelerator, first_ms))

    def _look(self, payload: bytes) -> bytes:
        if self._model is None:
            raise ModelError("closed", "no model was loaded yet")
        slot, height_px, width_px, threshold = wire.unpack_look(payload)
        picture = self._slots[slot].picture(height_px, width_px)
        if self._plain is not None:
            # After an invoke this process's caches are cold: what need not run here costs a tenth of it elsewhere.
            return wire.pack_numbers(self._plain.run_plain(picture), self._plain.invoke_ms)
        found = self._model.detect(picture, threshold=threshold)
        return wire.pack_found(found, self._model.invoke_ms)


def _opener(name: str) -> OpenModel:
    """The function that loads models, by `module:function`. Named by the agent's own code, never by anything received."""
    module, _, function = name.partition(":")
    return cast(OpenModel, getattr(importlib.import_module(module), function))


def _die_with(parent: int) -> None:
    """Let the kernel kill this process when the agent dies, also in the middle of an invoke."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
