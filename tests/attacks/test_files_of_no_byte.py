"""Files of 0 bytes: what a file system leaves of files that were not synced when the power failed, and what a releaser packs by
mistake. No board ends by one."""

import hashlib
import shutil
from pathlib import Path

import pytest

from device_agent.update.selftest import SelftestRequest, SelftestResult
from device_agent.update.selftest_process import run_selftest
from tests.attacks.robbed_fleet import Board, Fleet, assign, install_factory


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fleet, Path]:
    """A board that runs release 2 with release 1 from the factory; release 3 is published."""
    folder = tmp_path_factory.mktemp("yard")
    fleet, board = Fleet(folder / "server"), folder / "board"
    board.mkdir()
    fleet.publish("1", counter=1)
    install_factory(board, fleet, "1")
    first = Board(board, fleet, fleet.folder)
    assert first.told(assign(fleet, fleet.publish("2", counter=2), 1, fleet.signers["assignment"])) == ""
    first.updater.stop()
    fleet.publish("3", counter=3)
    return fleet, board


def kept(board: Path) -> list[str]:
    """Every file that a board at rest keeps, but for what an install place itself holds (its hashes are asked at each start)."""
    found = [path.relative_to(board) for path in board.rglob("*") if path.is_file() and path.stat().st_size]
    return sorted(str(path) for path in found if not (path.parts[0] == "slots" and len(path.parts) > 2)
                  and not path.name.startswith("factory-"))  # fmt: skip


def test_any_file_of_a_board_may_be_empty_after_a_power_cut(home, tmp_path: Path) -> None:
    """One file after the other is found with no byte in it: state, pointers, history, each piece of metadata. The board starts
    with a model, and takes the next release."""
    fleet, folder = home
    names = kept(folder)
    assert len(names) >= 7, names
    for number, name in enumerate(names):
        case = tmp_path / str(number)
        shutil.copytree(folder, case, symlinks=True)
        (case / name).chmod(0o644)
        (case / name).write_bytes(b"")
        if name == "slots/pointers.json":  # which one runs is not known: an agent's start brings the factory's bundle back
            install_factory(case, fleet, "1")
        board = Board(case, fleet, fleet.folder)
        assert board.runs() == ("yard@1 model" if name == "slots/pointers.json" else "yard@2 model"), name
        wanted = fleet.releases["3"][0]
        assert board.told(assign(fleet, wanted, 5, fleet.signers["assignment"])) == "", name
        assert Board(case, fleet, fleet.folder).runs() == "yard@3 model", name


def test_an_empty_answer_of_the_server_installs_nothing(home, tmp_path: Path) -> None:
    """The server's disk ran full while somebody copied files on it: each of its files in turn is served with no byte in it."""
    fleet, folder = home
    wanted, manifest, files = fleet.releases["3"]
    names = ["timestamp.json", "4.snapshot.json", "3.stable.json"]
    targets = [f"targets/files/{hashlib.sha256(data).hexdigest()}" for data in files.values()]
    targets.append(f"targets/stable/yard/3/{hashlib.sha256(manifest).hexdigest()}.manifest.json")
    for number, name in enumerate([*(f"metadata/{one}" for one in names), *targets]):
        case = tmp_path / str(number)
        shutil.copytree(folder, case / "board", symlinks=True)
        shutil.copytree(fleet.folder / "tuf", case / "shop" / "tuf")
        victim = case / "shop" / "tuf" / name
        victim.chmod(0o644)
        victim.write_bytes(b"")
        board = Board(case / "board", fleet, case / "shop")
        assert board.told(assign(fleet, wanted, 5, fleet.signers["assignment"])) in ("signature", "hash", "download"), name
        assert board.runs() == "yard@2 model", name


def test_a_release_whose_model_has_no_byte_is_refused_by_its_self_test(tmp_path: Path) -> None:
    """Rightly signed, rightly hashed, and empty."""
    release = Path(__file__).resolve().parents[2] / "models" / "rendered" / "releases" / "yard-1"
    (tmp_path / "model.tflite").write_bytes(b"")
    result = run_selftest(SelftestRequest(model=str(tmp_path / "model.tflite"), card=str(release / "card.toml")))
    assert isinstance(result, SelftestResult)
    assert result.code == "model"
