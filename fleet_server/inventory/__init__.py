"""The devices: what each is, when it was heard, what it runs."""
