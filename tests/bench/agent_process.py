"""A whole agent as a process of its own against a stand-in of the server: for benchmarks of memory and of bytes."""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from models.card import UNUSED_LABELS, dump_card
from tests.bench.film import ROOT, Material
from tests.fakes.device_door_fake import DeviceDoor
from tests.fakes.release_fleet import ReleaseFleet

START_S = 60.0
AGENT = """import sys
sys.modules.update(boto3=None, pkcs11=None, asn1crypto=None)
from device_agent.__main__ import main
sys.exit(main())"""
"""The agent as on a board, whose extra holds no boto3 and no pkcs11: where they are installed a library below TUF loads them."""


@dataclass(frozen=True, slots=True)
class Running:
    """An agent that is enrolled and sees. ``prefix`` was put before its command (a network namespace, say)."""

    process: subprocess.Popen[bytes]
    door: DeviceDoor
    device: str

    def check(self) -> None:
        """Raise RuntimeError when it has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the agent ended with {self.process.returncode}")


@contextlib.contextmanager
def agent(
    given: Material, cameras: int = 1, *, loop: bool = True, host: str = "127.0.0.1", prefix: Sequence[str] = (),
    fps: float = 10.0, stills: int = 0,
) -> Iterator[Running]:
    """Start one on the material's film, live, with so many cameras on the one detector; ended and cleaned up at the end.

    ``stills``: so many frames of it as JPEG files instead, as a camera delivers them: no decoder of films in the agent's memory.
    """
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        fleet = ReleaseFleet(folder / "fleet")
        door = stack.enter_context(DeviceDoor(folder / "door", host=host))
        fleet.attach(door)
        labels = [label for label in given.card.labels if label not in UNUSED_LABELS]
        bundle, _ = fleet.publish("1", other=(given.model, dump_card(given.card), list(dict.fromkeys(labels))))
        (folder / "claim").write_text(door.claim())
        source = f"film:{given.film}" if given.film is not None else "rendered:7:day"
        if stills:
            (folder / "stills").mkdir()
            for number, frame in enumerate(given.frames(stills)):
                cv2.imwrite(str(folder / "stills" / f"{number:05d}.jpg"), frame)
            source = f"pictures:{folder / 'stills'}"
        eyes = "".join(
            f'[[camera]]\nname = "camera{number}"\nsource = "{source}"\npacing = "live"\nfps = {fps}\n'
            + (f"loop = {str(loop).lower()}\n" if given.film is not None or stills else "")
            for number in range(1, cameras + 1)
        )
        config = folder / "agent.toml"
        config.write_text(f"""
[agent]
data_dir = "data"
[server]
url = "{door.url}"
ca_file = "{door.ca_file}"
claim_file = "claim"
[factory]
bundle = "{bundle}"
root = "{fleet.root_file}"
[detector]
threads = 1
child = true
{eyes}""")
        log = stack.enter_context((folder / "agent.log").open("wb"))
        command = [*prefix, sys.executable, "-c", AGENT, "run", "--config", str(config)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT)
        stack.callback(_end, process)
        if not door.wait(lambda: bool(door.state.devices), START_S):
            raise RuntimeError(f"the agent did not enrol: {(folder / 'agent.log').read_text()[-2000:]}")
        yield Running(process, door, next(iter(door.state.devices)))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
