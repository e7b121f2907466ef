"""Ingest: what devices send, over MQTT and over the device door, into the services; and the worker's ticks."""
