"""Slots: content-addressed install places with one atomic pointer."""
