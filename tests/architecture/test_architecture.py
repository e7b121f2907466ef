"""The rules of the house, enforced: who may import whom, what does IO, how large a room may grow.

Each exception stands in one list here, with its reason, and the lists may only shrink.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("device_agent", "fleet_server", "ota", "models", "provisioning", "hardware")

LONG_FILES: dict[str, str] = {}
"""Files over 300 lines, each with its reason."""
LONG_FUNCTIONS: dict[str, str] = {"deploy.demo.fleet:write_agent": "one text: the whole agent.toml of a demo board"}
"""``module:function`` over 60 lines, each with its reason."""

IO_ENDINGS = ("_disk", "_http", "_mqtt", "_linux", "_tflite", "_x509", "_picamera2", "_opencv", "_rendered", "_process", "_s3",
              "_mosquitto", "_gunicorn", "_pkcs11", "_smtp")  # fmt: skip
SHELL_NAMES = {
    "__main__", "__init__", "assemble", "assemble_base", "assemble_eyes", "supervise", "launcher", "app", "database",
    "tables", "service", "api", "views", "run", "worker",
}  # fmt: skip
"""Entry points, and Flask and ORM files: they join pure parts to the world and are named for that."""
IO_ALLOWED: dict[str, str] = {
    "models.evaluate": "a command: reads a set, writes its figures",
    "models.rendered.train": "training; runs in an environment of its own",
    "models.rendered.train_export": "training",
    "models.rendered.train_pictures": "training",
    "models.rendered.train_verifier": "training",
    "hardware.profile": "reads the profiles that are delivered inside the package",
}
IO_MODULES = {
    "socket", "ssl", "subprocess", "shutil", "tempfile", "urllib3", "httpx", "requests", "boto3", "paho", "sqlite3", "fcntl",
    "mmap",    "multiprocessing", "select", "selectors", "signal",
}  # fmt: skip
IO_CALLS = {
    "open", "read_text", "read_bytes", "write_text", "write_bytes", "unlink", "mkdir", "rename",
    "fsync", "monotonic", "urandom",
}  # fmt: skip

CLOCK_ALLOWED: dict[str, str] = {
    "device_agent.simulated.behaviour": "a virtual board's fate, drawn from a generator that is seeded by its own name",
    "device_agent.vision.detector": "measures the latency of a stage; no decision hangs on it",
    "device_agent.vision.pipeline": "measures the latency of a stage; no decision hangs on it",
}
"""Files without IO in their name that look at a clock or draw random numbers all the same."""
CHANCE_MODULES = {"random", "secrets", "uuid"}
CLOCKS = {
    "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.sleep",
    "datetime.now", "datetime.utcnow", "datetime.today", "datetime.datetime.now",
}  # fmt: skip

FLOORS = (
    ("__main__",),
    ("supervise", "door_verbs", "doors_http", "check_disk", "restored_disk", "pki_verbs_disk"),
    ("broker_guard_mqtt", "startable_disk"),
    ("migrations", "assemble", "private_door_http"),
    ("app",),
    ("operator_openapi",),
    ("dashboard", "ingest"),
    ("overview",),
    ("experiments", "alerts"),  # alerts: which of those about rollouts a group-limited account sees
    ("rollouts", "verification", "planner"),
    ("revocation",),
    ("telemetry", "logs", "detections", "releases", "configuration", "enrolment"),
    ("inventory", "accounts"),
    ("audit",),
    ("blobs", "lease", "statistics"),
    # The ground: who stands here uses nothing above it; what a door, a log stream or a child process is made of.
    ("database", "settings", "errors", "http_errors", "http_wire", "http_json", "http_access", "identities", "context",
     "blob_store", "stream_mark", "migrate", "broker_disk", "broker_takeover_mqtt", "patience_http", "process_linux",
     "door_errors_gunicorn", "door_log_gunicorn", "headers_http", "operator_tls_x509", "outgoing_http", "secret_files_disk",
     "settings_checks", "device_openapi", "door_limits", "proxy_nginx", "device_tls_x509", "places_disk",
     "in_flight"),
)  # fmt: skip
APART = {"cli"}
"""An HTTP client, with rules of its own above."""

VALUES = {"service", "listing", "views"}
"""What another folder may import of a folder of the server: use cases, and the frozen values that they answer."""
ACROSS_ALLOWED: dict[str, str] = {
    "fleet_server.audit.looks": "the use case of a person looking at a picture",
    "fleet_server.accounts.access": "signs a person in and out: the other half of the service, about cookies",
    "fleet_server.accounts.api": "the pages' sign-in is the API's, with its cookies and its counting",
    "fleet_server.accounts.oidc": "use cases of signing in through a provider: the other half of the service",
    "fleet_server.accounts.oidc_http": "the pages lead to the provider and back, and are its shell",
    "fleet_server.accounts.own": "use cases of one's own account: the other half of the service",
    "fleet_server.accounts.people": "use cases of other people's accounts: the other half of the service",
    "fleet_server.alerts.parts": "use cases of the parts of the server: the other half of the service",
    "fleet_server.alerts.webhook_http": "the worker is its shell",
    "fleet_server.blobs.store": "the interface of the store",
    "fleet_server.detections.cursor": "values: where a page ended",
    "fleet_server.enrolment.api": "the pages accept boards with the issuer that the API has read",
    "fleet_server.enrolment.limited": "use cases of callers that were told to wait: the other half of the service",
    "fleet_server.inventory.device": "values: a device as everybody sees it",
    "fleet_server.inventory.reach": "which devices a group-limited account reaches: conditions for the queries of every list",
    "fleet_server.inventory.succession": "devices that begin anew, follow another or are gone: the service's other half",
    "fleet_server.releases.published_disk": "the worker is its shell",
    "fleet_server.releases.reconcile_disk": "the worker is its shell",
    "fleet_server.releases.reconciling": "pure",
    "fleet_server.releases.seen": "use cases of what devices have seen of the metadata: the other half of the service",
    "fleet_server.rollouts.explain": "the use case of why-not",
    "fleet_server.rollouts.orders": "values: what a rollout is asked for",
    "fleet_server.rollouts.reach": "which rollouts a group-limited account sees and may steer: the other half of the service",
    "fleet_server.rollouts.reports": "use cases of reports: the other half of the service",
    "fleet_server.rollouts.targets": "use cases of what a device should run: experiments set it, too",
    "fleet_server.statistics.cohorts": "pure",
    "fleet_server.verification.local_tflite": "the worker is its shell",
}


def modules() -> dict[str, Path]:
    """Dotted name -> file, of everything that is delivered."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            relative = path.relative_to(ROOT)
            if "versions" in relative.parts:
                continue
            parts = relative.with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, module: str) -> set[str]:
    """Every module that a file imports, lazily or not, and ``package.name`` for ``from package import name``."""
    names: set[str] = set()
    is_package = path.name == "__init__.py"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".") if is_package else module.split(".")[:-1]
                parts = parts[: len(parts) - node.level + 1]
                base = ".".join([*parts, base] if base else parts)
            names.add(base)
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


MODULES = modules()
IMPORTS = {name: imports(path, name) for name, path in MODULES.items()}
OURS = {
    name: {target for target in targets if target in MODULES and target != name} for name, targets in IMPORTS.items()
}


def violations(source: str, forbidden: tuple[str, ...], allowed: tuple[str, ...] = ()) -> list[str]:
    """``module imports target`` for every import from below ``source`` that hits ``forbidden`` and not ``allowed``."""

    def under(name: str, roots: tuple[str, ...]) -> bool:
        return any(name == root or name.startswith(root + ".") for root in roots)

    return [
        f"{module} imports {target}"
        for module, targets in IMPORTS.items()
        if under(module, (source,))
        for target in sorted(targets)
        if under(target, forbidden) and not under(target, allowed) and not any(a.startswith(target + ".") for a in allowed)
    ]


def test_the_two_sides_never_meet_but_in_ota() -> None:
    device = violations(
        "device_agent",
        ("fleet_server", "provisioning", "models", "flask", "sqlalchemy", "boto3"),
        ("models.card", "models.inference", "models.golden", "models.rendered.scenes"),
    )
    assert device == []
    drawn = [line for line in violations("device_agent", ("models.rendered",)) if "camera_rendered" not in line]
    assert drawn == []
    server = violations("fleet_server", ("device_agent", "hardware", "models", "provisioning"),
                        ("hardware.profile", "models.card", "models.inference", "models.golden", "provisioning"))  # fmt: skip
    assert server == []


def test_only_verification_and_cli_touch_inference_and_only_the_cli_provisions() -> None:
    inference = violations("fleet_server", ("models.inference", "models.golden"))
    assert [line for line in inference if not line.startswith(("fleet_server.verification", "fleet_server.cli"))] == []
    assert [line for line in violations("fleet_server", ("provisioning",)) if not line.startswith("fleet_server.cli")] == []


@pytest.mark.parametrize("leaf", ["ota", "hardware", "models"])
def test_leaves_import_none_of_ours(leaf: str) -> None:
    assert violations(leaf, tuple(package for package in PACKAGES if package != leaf)) == []


def test_provisioning_never_imports_a_side() -> None:
    assert violations("provisioning", ("device_agent", "fleet_server")) == []


def test_the_command_line_is_an_http_client() -> None:
    assert violations("fleet_server.cli", ("flask", "sqlalchemy", "flask_openapi3")) == []
    assert violations("fleet_server.cli", ("fleet_server",),
                      ("fleet_server.cli", "fleet_server.planner", "fleet_server.audit.chain")) == []  # the last is pure


def test_rooms_of_the_agent_are_siblings() -> None:
    rooms = ("vision", "spool", "telemetry", "update", "logs", "link")
    faults = []
    for room in rooms:
        others = tuple(f"device_agent.{other}" for other in rooms if other != room)
        faults += violations(f"device_agent.{room}", others)
    assert faults == []


def test_the_servers_floors_are_climbed_in_one_direction() -> None:
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    faults = []
    for module, targets in OURS.items():
        parts = module.split(".")
        if parts[0] != "fleet_server" or len(parts) < 2 or parts[1] in APART:
            continue
        if parts[1] not in floor:
            faults.append(f"{module} stands on no floor")
            continue
        for target in targets:
            room = target.split(".")
            if room[0] != "fleet_server" or len(room) < 2 or room[1] == parts[1] or room[1] not in floor:
                continue
            same_level_is_fine = floor[parts[1]] == len(FLOORS) - 1
            if floor[room[1]] < floor[parts[1]] or (floor[room[1]] == floor[parts[1]] and not same_level_is_fine):
                faults.append(f"{module} imports {target}")
    assert faults == []


def test_tables_stay_in_their_folder() -> None:
    """No ORM object leaves its folder: another folder's tables are imported by migrations alone."""
    faults = [
        f"{module} imports {target}"
        for module, targets in OURS.items()
        for target in targets
        if target.endswith(".tables")
        and module.rpartition(".")[0] != target.rpartition(".")[0]
        and not module.startswith(("fleet_server.migrations", "fleet_server.database"))
    ]
    assert faults == []


def test_api_service_tables_and_nothing_else_between_folders() -> None:
    """Inside a folder api → service → tables; what another folder takes of it is a service or values."""
    faults = []
    for module, targets in OURS.items():
        parts = module.split(".")
        if parts[0] != "fleet_server" or len(parts) != 3 or parts[1] in (*APART, "migrations"):
            continue
        for target in targets:
            room = target.split(".")
            if room[0] != "fleet_server" or len(room) != 3:
                continue
            if room[1] == parts[1]:
                upwards = room[2] == "api" or parts[2] == "tables" or (parts[2] == "api" and room[2] == "tables")
                if upwards:
                    faults.append(f"{module} imports {target}: api → service → tables")
            elif room[2] not in VALUES and target not in ACROSS_ALLOWED:
                faults.append(f"{module} imports {target}: from another folder only its service")
    assert faults == []


@pytest.mark.parametrize(
    ("roots", "banned", "missing"),
    [
        (["fleet_server.cli.main"], ["flask", "sqlalchemy", "pydantic", "boto3", "numpy", "tuf"], []),
        (sorted(name for name in MODULES if name.startswith("fleet_server.cli.")), ["flask", "sqlalchemy"], ["boto3"]),
        # securesystemslib loads boto3 for its key services where it finds it: a board has none, and starts all the same.
        (["device_agent.assemble", "device_agent.launcher"], ["flask", "sqlalchemy"], ["boto3"]),
    ],
    ids=["rookery --help", "every verb of rookery", "the agent"],
)
def test_what_a_program_loads_in_the_end(roots: list[str], banned: list[str], missing: list[str]) -> None:
    """A rule about imports that a friend of a friend breaks: the loaded program itself is looked at."""
    code = (
        "import importlib, json, sys\n"
        f"for name in {missing!r}: sys.modules[name] = None\n"
        f"for name in {roots!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert loaded & set(banned) == set()


def test_no_import_cycles() -> None:
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if name in path:
            yield (*path[path.index(name):], name)
            return
        if name in done:
            return
        for target in sorted(OURS[name]):
            yield from walk(target, (*path, name))
        done.add(name)

    cycles = [cycle for name in MODULES for cycle in walk(name, ())]
    assert cycles == []


def test_no_two_packages_import_each_other() -> None:
    def package(name: str) -> str:
        path = MODULES[name]
        return name if path.name == "__init__.py" else name.rpartition(".")[0]

    arrows = {(package(name), package(target)) for name, targets in OURS.items() for target in targets}
    nested = [(a, b) for a, b in arrows if a != b and (b, a) in arrows and not a.startswith(b) and not b.startswith(a)]
    assert nested == []


def test_files_and_functions_stay_small() -> None:
    faults, long_functions = [], set()
    demo = {f"deploy.demo.{path.stem}": path for path in (ROOT / "deploy" / "demo").glob("*.py")}
    assert demo
    for name, path in {**MODULES, **demo}.items():
        text = path.read_text()
        lines = text.count("\n")
        if lines > 300 and name not in LONG_FILES:
            faults.append(f"{name}: {lines} lines, the limit is 300")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                if size > 60:
                    long_functions.add(f"{name}:{node.name}")
                if size > 60 and f"{name}:{node.name}" not in LONG_FUNCTIONS:
                    faults.append(f"{name}:{node.name}: {size} lines, the limit is 60")
    assert faults == []
    assert set(LONG_FUNCTIONS) <= long_functions, "one has shrunk: take it off the list"


def test_the_lists_of_exceptions_hold_nothing_that_is_gone() -> None:
    for name in LONG_FILES:
        assert MODULES[name].read_text().count("\n") > 300, f"{name} has shrunk: take it off the list"
    for entry in (*IO_ALLOWED, *CLOCK_ALLOWED, *ACROSS_ALLOWED):
        assert entry in MODULES, f"{entry} is gone: take it off the list"
    for entry in CLOCK_ALLOWED:
        assert looks_at_clock_or_chance(entry), f"{entry} has become pure: take it off the list"
    for entry in ACROSS_ALLOWED:
        folder = entry.rpartition(".")[0]
        others = [module for module, targets in OURS.items() if entry in targets and not module.startswith(folder + ".")]
        assert others, f"no other folder imports {entry} any more: take it off the list"


def is_shell(name: str) -> bool:
    """Whether a module may do IO by its name, its folder or the list."""
    stem = MODULES[name].stem
    return stem in SHELL_NAMES or stem.endswith(IO_ENDINGS) or name in IO_ALLOWED or ".cli" in name or "migrations" in name


def looks_at_clock_or_chance(name: str) -> list[str]:
    """Clocks and sources of chance that a module uses, whatever it is called."""
    found = {target.split(".")[0] for target in IMPORTS[name]} & CHANCE_MODULES
    found |= {target for target in IMPORTS[name] if target in CLOCKS}
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in CLOCKS:
            found.add(ast.unparse(node))
    return sorted(found)


def test_time_and_chance_come_in_as_arguments() -> None:
    """What has no IO in its name gives the same answer tomorrow: no clock, no dice."""
    faults = [
        f"{name} uses {', '.join(used)}"
        for name in MODULES
        if not is_shell(name) and name not in CLOCK_ALLOWED and (used := looks_at_clock_or_chance(name))
    ]
    assert faults == []


def test_a_file_that_does_io_says_so_in_its_name() -> None:
    faults = []
    for name, path in MODULES.items():
        if is_shell(name):
            continue
        touched = {target.split(".")[0] for target in IMPORTS[name]} & IO_MODULES
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if called in IO_CALLS:
                    touched.add(f"{called}()")
        if touched:
            faults.append(f"{name} does IO ({', '.join(sorted(touched))}) and its name does not say so")
    assert faults == []


def test_names_say_what_is_inside() -> None:
    banned = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
    assert [name for name in MODULES if banned & set(name.split("."))] == []


def test_init_files_hold_a_docstring_only() -> None:
    faults = []
    for name, path in MODULES.items():
        if path.name == "__init__.py":
            body = ast.parse(path.read_text()).body
            if len(body) != 1 or not (isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)):
                faults.append(name)
    assert faults == []
