"""Health of the device: readings become heartbeats."""
