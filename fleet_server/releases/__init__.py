"""Releases: what the signed channel metadata says may exist; the rows here are a cache of it."""
