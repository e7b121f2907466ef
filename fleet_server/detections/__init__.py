"""Detections: events as devices reported them, their crops and what the verifier said."""
