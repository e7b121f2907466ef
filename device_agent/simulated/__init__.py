"""Many virtual devices in one process, over the real wire."""
