"""The log of who did what, to what, from where: rows are only ever added."""
