"""Where the inference child's Python starts: first what makes it small, then `detector_child_linux`, which does the work."""

import sys

from device_agent.vision.light_numpy import lighten


def main() -> int:
    """The child's life; its exit code."""
    lighten()
    from device_agent.vision.detector_child_linux import main as serve

    return serve()


if __name__ == "__main__":
    sys.exit(main())
