"""``./run bench [ID …] [--json FILE]``: speed and cost as ratios against peers, one table."""

import argparse
import importlib
import importlib.metadata
import json
import platform
import sys
import time
from pathlib import Path

ALL = [f"P{number}" for number in range(1, 18)]
HERE = Path(__file__).parent
BUILT = {name: f"tests.bench.bench_{name.lower()}" for name in ALL if (HERE / f"bench_{name.lower()}.py").is_file()}
VERSIONS = ("rookery", "ai-edge-litert", "numpy", "opencv-python-headless", "flask", "sqlalchemy")


def main() -> int:
    """Run the wanted benchmarks; 0 when every judged ratio is within its bar."""
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument("ids", nargs="*", metavar="ID", help="P1 … P17; all without one")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    wanted = [identifier.upper() for identifier in options.ids] or ALL
    unknown = sorted(set(wanted) - set(ALL))
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; known: P1 to P17")
    rows = []
    print("| id | ratio | spread | bar | ok | figures |\n|---|---|---|---|---|---|")
    for identifier in wanted:
        if identifier not in BUILT:
            rows.append({"id": identifier, "ratio": None, "spread": None, "bar": None, "ok": None, "figures": {}, "peers": {}})
            print(f"| {identifier} | not built | | | | |")
            continue
        result = importlib.import_module(BUILT[identifier]).run()
        rows.append(result.as_json())
        figures = ", ".join(f"{key} {value:.3f}" for key, value in result.figures.items())
        spread = ", ".join(f"{low:.2f}–{high:.2f}" for low, high in result.spread)
        print(f"| {identifier} | {', '.join(f'{ratio:.2f}' for ratio in result.ratio)} | {spread} | "
              f"{', '.join(f'{bar:g}' for bar in result.bar)} | {'yes' if result.ok else 'NO'} | {figures} |")  # fmt: skip
    if options.json:
        document = {
            "machine": {"platform": platform.platform(), "processor": platform.machine()},
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "versions": {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in VERSIONS}},
            "results": rows,
        }
        temporary = options.json.with_name(f".{options.json.name}.part")
        temporary.write_text(json.dumps(document, indent=2) + "\n")
        temporary.replace(options.json)
    return 1 if any(row["ok"] is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
