"""Rollouts: a release on its way through the fleet, in stages, behind gates; and the assignments that carry it."""
