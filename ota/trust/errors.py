"""Errors of the trust layer, by who must act. Refusals of what arrives from outside are values (``refusal.py``), not these."""


class TrustError(Exception):
    """Something cannot be trusted, or trust cannot be given; the message says what and what to do."""


class KeyFileError(TrustError):
    """A key file is there already, missing, unreadable, or its passphrase is wrong: the person at the keyboard must act."""


class FolderError(TrustError):
    """A file of a ceremony's folder cannot be read or written: the person at the keyboard must act."""


class RepositoryError(TrustError):
    """The server's own metadata store is damaged or not set up: the operator must act."""
