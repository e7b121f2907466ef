"""Verification: the second look at each crop by a heavier model, behind a queue that loses nothing."""
