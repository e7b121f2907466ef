"""Bundles: the manifest of a release, the file that carries it, and which variant fits a board."""
