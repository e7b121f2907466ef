"""The stage of the story: server, root of trust, releases and boards, each set up through the command line."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fleet
import material
from api import Api, Cli
from boards import BOARDS, IMPOSSIBLE
from material import NAME, STORY, DemoRelease
from processes import DemoError, Processes, last_words

from models.rendered.scenes import SHOWN_SEEDS

BIN = Path(sys.executable).parent
BREAKS = ("server", "unsigned", "acceptance", "trial", "tamper", "log", "verifier")
"""What can be broken on purpose, to prove that the judge sees it: one for each promise of the story."""
REFUSAL_DEADLINE_S = 60.0


@dataclass(slots=True)
class Options:
    """What was asked on the command line."""

    home: Path
    port: int | None = None
    broker: str = "auto"
    broken: str = ""
    film: Path | None = None
    model: Path | None = None
    card: Path | None = None


@dataclass(slots=True)
class Stage:
    """Everything that is set up before the first chapter. ``say`` tells a line to the person."""

    options: Options
    processes: Processes
    say: Callable[[str], None]
    server: dict[str, Any] = field(default_factory=dict)
    impossible: str = ""
    """What the board that no variant fits was told."""
    _api: Api | None = None
    _cli: Cli | None = None

    @property
    def work(self) -> Path:
        """The folder of this run; made anew each time."""
        return self.options.home / "run"

    @property
    def own(self) -> bool:
        """The user brought a film and a model."""
        return self.options.model is not None

    @property
    def api(self) -> Api:
        """The operator API; raises DemoError before the server has started."""
        if self._api is None:
            raise DemoError("the fleet server has not started")
        return self._api

    @property
    def cli(self) -> Cli:
        """The command line; raises DemoError before the server has started."""
        if self._cli is None:
            raise DemoError("the fleet server has not started")
        return self._cli

    def set_up(self) -> None:
        """Server, signing keys, the first release, and three boards; the fourth is told that nothing fits it."""
        if self.work.exists():
            shutil.rmtree(self.work)
        self.work.mkdir(parents=True, mode=0o700)
        self.start_server()
        self.make_trust()
        first = self.build(STORY[0])
        self.push(first)
        self._start_boards(first)
        if not self.own:
            self._ask_the_impossible(first)

    def start_server(self) -> None:
        """Start the server, and get a machine token from its own machine: the first person's password is not ours to set."""
        port = self.options.port or fleet.free_port(fleet.OPERATOR_PORT)
        if self.options.port is None and port != fleet.OPERATOR_PORT:
            self.say(f"port {fleet.OPERATOR_PORT} is taken: using {port}")
        settings = {"ROOKERY_FAST_POLL_S": "2", "ROOKERY_POLL_S": "2", "ROOKERY_HEARTBEAT_S": "5"}
        if not self.own:
            verifier = self.work / "gone" if self.options.broken == "verifier" else material.VERIFIER
            settings["ROOKERY_VERIFIER_MODEL"] = str(verifier / "model_int8.tflite")
            settings["ROOKERY_VERIFIER_CARD"] = str(verifier / "card.toml")
        data = self.work / "server"
        self.server = fleet.start_server(self.processes, BIN / "rookery-server", data, port, self.options.broker, settings)
        self.say(f"fleet server: {self.server['operator_url']}  (devices: {self.server['device_url']})")
        with_broker = "broker: mosquitto"
        without = "no broker: devices use HTTPS alone; a wake waits for the next poll instead of coming at once"
        self.say(with_broker if self.server.get("broker") else without)
        token_file = self.work / "token"
        command = [
            str(BIN / "rookery-server"),
            "token",
            "--data",
            str(data),
            "--name",
            "demo",
            "--role",
            "admin",
            "--hours",
            "12",
        ]
        done = subprocess.run([*command, "--out", str(token_file)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise DemoError(f"rookery-server token: {done.stderr.strip()}")
        token = token_file.read_text().strip()
        self._api = Api(self.server["operator_url"], token)
        environment = {"ROOKERY_SERVER": self.server["operator_url"], "ROOKERY_TOKEN": token,
                       "ROOKERY_CONFIG": str(self.work / "cli.toml"), "ROOKERY_PASSPHRASE": "only for this demo"}  # fmt: skip
        self._cli = Cli(BIN / "rookery", environment, self.work / "logs" / "cli.log")

    def make_trust(self) -> None:
        """Four offline keys, a root that two of three sign, and the channel's acceptance set."""
        keys = self.work / "offline"
        for name in ("root-1", "root-2", "root-3", "stable"):
            self.cli.run("key", "generate", str(keys / f"{name}.pem"))
        arguments = [word for number in (1, 2, 3) for word in ("--root-key", str(keys / f"root-{number}.pem.pub"))]
        channel = f"stable={keys / 'stable.pem.pub'}"
        self.cli.run("root", "create", str(keys / "trust"), *arguments, "--threshold", "2", "--channel", channel)
        for number in (1, 3):
            self.cli.run("root", "sign", "--yes", str(keys / "trust"), "--key", str(keys / f"root-{number}.pem"))
        self.cli.run("root", "push", str(keys / "trust"))
        self.say("root of trust: 2 of 3 root keys signed, offline; channel stable has its own key")
        if not self.own:
            acceptance = ["channel", "acceptance", "stable", str(material.ACCEPTANCE), "--key", str(keys / "stable.pem")]
            self.cli.run(*acceptance, "--trust", str(keys / "trust"))

    def build(self, release: DemoRelease) -> Path:
        """Build, sign and verify one release; returns its bundle."""
        folder = self.work / "releases" / release.version
        if self.own:
            assert self.options.model is not None
            assert self.options.card is not None
            material.own_release_folder(release.version, release.counter, folder, self.options.model, self.options.card)
        else:
            material.release_folder(release, folder, acceptance=self.options.broken != "acceptance")
        bundle = folder.parent / f"{NAME}-{release.version}.rookery"
        self.cli.run("bundle", "build", str(folder), "--out", str(bundle))
        keys = self.work / "offline"
        if not (self.options.broken == "unsigned" and release.version != "1"):
            self.cli.run("bundle", "sign", str(bundle), "--key", str(keys / "stable.pem"), "--trust", str(keys / "trust"))
            self.cli.run("bundle", "verify", str(bundle), "--root", str(keys / "trust" / "root.json"))
        return bundle

    def push(self, bundle: Path) -> None:
        """Give a bundle to the server."""
        self.cli.run("bundle", "push", str(bundle))

    def film(self, number: int) -> Path:
        """The film of one board: the user's own, or one that is drawn now if it is not there yet."""
        if self.options.film is not None:
            return self.options.film
        film = self.options.home / "films" / f"yard-{number}.mp4"
        material.draw_film(film, seed=SHOWN_SEEDS[number])
        return film

    def _start_boards(self, factory: Path) -> None:
        server = dict(self.server)
        broken = self.options.broken
        if broken == "server":
            server["device_url"] = f"https://127.0.0.1:{fleet.free_port(20_000)}"
        root = self.work / "offline" / "trust" / "root.json"
        for number, board in enumerate(BOARDS):
            folder = self.work / "boards" / board.name
            folder.mkdir(parents=True)
            bound = ["--name", board.name, "--group", "demo", "--serial", board.serial]
            self.cli.run("claim", "create", *bound, "--out", str(folder / "claim"))
            config = fleet.write_agent(
                board, folder, server=server, bundle=factory, root=root, film=self.film(number),
                trial="min_rate_ratio = 0" if broken == "trial" else "", log_level="debug" if broken == "log" else "info",
            )  # fmt: skip
            fleet.start_agent(self.processes, Path(sys.executable), board, config)
        self.say("three agents started: " + ", ".join(f"{board.name} ({board.model})" for board in BOARDS))

    def _ask_the_impossible(self, factory: Path) -> None:
        folder = self.work / "boards" / IMPOSSIBLE.name
        folder.mkdir(parents=True)
        root = self.work / "offline" / "trust" / "root.json"
        config = fleet.write_agent(IMPOSSIBLE, folder, server=self.server, bundle=factory, root=root, film=self.film(0))
        log = self.processes.log_file(f"agent-{IMPOSSIBLE.name}")
        with log.open("wb") as stream:
            command = [str(BIN / "rookery-agent"), "run", "--config", str(config)]
            try:
                subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, check=False, timeout=REFUSAL_DEADLINE_S
                )
            except subprocess.TimeoutExpired:
                raise DemoError(f"the board that no variant fits ({IMPOSSIBLE.name}) was not told so") from None
        self.impossible = last_words(log)
        self.say(f"a fourth board, {IMPOSSIBLE.model}: {self.impossible}")
