"""Alerts: what needs a person; opened and resolved by evaluated conditions, told to webhooks."""
