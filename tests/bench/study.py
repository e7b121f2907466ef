"""``./run study NAME [--json FILE] …``: long simulations with a plot and a table, each reproducible from its seeds."""

import importlib
import sys

STUDIES = {"goldens": "tests.bench.study_goldens", "tracker": "tests.bench.study_tracker"}


def main(arguments: list[str]) -> int:
    """Hand over to the study that is named first; 2 when there is none of that name."""
    if not arguments or arguments[0] not in STUDIES:
        print(f"usage: ./run study NAME [ARGUMENTS]; known: {', '.join(sorted(STUDIES))}", file=sys.stderr)
        return 2
    return int(importlib.import_module(STUDIES[arguments[0]]).main(arguments[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
