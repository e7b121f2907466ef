"""The fleet server: enrols boards, publishes releases, watches health, reads logs."""
