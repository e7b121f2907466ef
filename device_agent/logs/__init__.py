"""Logs: a ring on disk, batches for the server, debug sessions that end by themselves."""
