"""Experiments: two releases compared on purpose on sticky shares of the fleet."""
