"""``./run study goldens [--json FILE]``: spoiled models that the self-test must refuse, and good ones that it must not.

Every row is one run of the self-test's child, as a board makes it before the switch. Judged: at least 95 % of the catalogue is
caught; no alarm over the rendered releases and the models made by others, on both runtimes, with one and two threads.
"""

import argparse
import dataclasses
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.bench.golden_cases import (
    ASSETS,
    CATALOGUE,
    RELEASES,
    ROOT,
    Base,
    asset_base,
    clean_runs,
    examine,
    rendered_base,
)
from tests.bench.study_tracker import write

CAUGHT_SHARE = 0.95
SEED = 20261123
"""Of nothing but the record: what each row draws has its own seed."""
JUDGED_CODE = ("models/golden.py", "models/inference", "device_agent/update/selftest*.py", "fleet_server/cli/bundle_golden.py",
               "tests/bench/golden_cases.py", "tests/bench/study_goldens.py", "tests/fakes/spoiled_models.py")  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Run the study; 0 when both bars hold, 1 when not."""
    parser = argparse.ArgumentParser(prog="./run study goldens", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--assets", type=Path, default=ROOT.parent / "shared" / "assets")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="rookery-goldens-") as folder:
        rows = run(Path(folder), options.assets)
    found = document(rows)
    for row in found["results"]:
        print(f"{row['name']}: {row['value']} (bar {row['bar']}) {'ok' if row['ok'] else 'NOT OK'}")
    if options.json:
        write(options.json, json.dumps(found, indent=1).encode() + b"\n")
    return 0 if all(row["ok"] for row in found["results"]) else 1


def bases_in(folder: Path, assets: Path) -> dict[str, Base]:
    """Every model of the study with its golden samples; those made by others only where the shared material is."""
    bases = {release: rendered_base(folder / release, release) for release in RELEASES}
    for release in RELEASES:  # the float variant of the same release, by the same samples
        made = bases[release]
        place = Path(made.request.model).with_name("model_float32.tflite")
        request = msgspec.structs.replace(made.request, model=str(place))
        bases[f"{release} float"] = dataclasses.replace(made, name=f"{release} {place.name}", request=request)
    if assets.is_dir():
        bases |= {kind: asset_base(folder / kind, assets, kind) for kind in ASSETS}
    return bases


def run(folder: Path, assets: Path) -> dict[str, list[dict[str, Any]]]:
    """All rows: ``clean`` and ``spoiled``."""
    bases = bases_in(folder, assets)
    clean, caught = [], []
    for name, request in clean_runs(list(bases.values())):
        proof = examine(request)
        clean.append({"name": name, "code": proof.code, "detail": proof.detail, "ok": not proof.code})
        _say(clean[-1])
    for number, case in enumerate(CATALOGUE):
        if case.needs not in bases:
            continue
        place = folder / f"case-{number}"
        place.mkdir()
        proof = examine(case.make(bases[case.needs], place))
        caught.append({"name": case.name, "family": case.family, "model": case.needs, "seed": case.seed, "code": proof.code,
                       "detail": proof.detail, "ok": bool(proof.code)})  # fmt: skip
        _say(caught[-1])
    return {"clean": clean, "spoiled": caught,
            "tolerances": [{"model": base.name, "parity": base.tolerance} for base in bases.values()]}  # fmt: skip


def _say(row: dict[str, Any]) -> None:
    verdict = "ok " if row["ok"] else "BAD"
    print(f"  {verdict} {row.get('model', '')} {row['name']}: {row['code']} {row['detail'][:90]}", flush=True)


def document(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The study as a file: the two judged rows, every run, commit."""
    spoiled_rows, clean = rows["spoiled"], rows["clean"]
    share = sum(row["ok"] for row in spoiled_rows) / len(spoiled_rows)
    alarms = sum(not row["ok"] for row in clean)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    changed = subprocess.run(["git", "status", "--porcelain", "--", *JUDGED_CODE], cwd=ROOT, capture_output=True, text=True,
                             check=False).stdout  # fmt: skip
    return {
        "study": "goldens",
        "seed": SEED,
        "commit": commit,
        "uncommitted": sorted(line[3:] for line in changed.splitlines()),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": {"platform": platform.platform(), "processor": platform.machine()},
        "results": [
            {"name": f"caught of {len(spoiled_rows)} spoiled models", "value": round(share, 4), "bar": CAUGHT_SHARE,
             "ok": share >= CAUGHT_SHARE},
            {"name": f"alarms over {len(clean)} runs of good models", "value": alarms, "bar": 0, "ok": alarms == 0},
        ],
        **rows,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
