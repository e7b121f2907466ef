"""Telemetry: heartbeats, the newest in the inventory, the recent ones as rows."""
