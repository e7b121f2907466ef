"""Statistics: pure functions over cohorts; no database, no clock."""
