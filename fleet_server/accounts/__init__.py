"""Operators: who may sign in to the server, with which role, by cookie or by token."""
