"""Seeing: from a camera's frames to events with crops.

Meets the rest of the agent only through values and callables handed in."""
