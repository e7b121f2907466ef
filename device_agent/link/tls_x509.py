"""TLS contexts: the pinned authority, nothing of the system's, and this device's certificate where it has one."""

import ssl
from pathlib import Path

from device_agent.errors import IdentityBrokenError, SettingsError
from device_agent.link.identity_x509 import AGAIN, Identity

NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME: used for the one exchange that brings the time to a board whose clock is behind."""


def dates_unchecked(made: ssl.SSLContext) -> bool:
    """Whether this context was made without a look at dates."""
    return bool(int(made.verify_flags) & NO_CHECK_TIME)


def context(ca_file: Path, identity: Identity | None = None, *, check_dates: bool = True) -> ssl.SSLContext:
    """A client context that trusts ``ca_file`` and the chain pinned at enrolment, and nothing else.

    Raises SettingsError when the pinned file cannot be used, IdentityBrokenError when our own files cannot.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        made.load_verify_locations(cafile=str(ca_file))
    except ssl.SSLError:
        raise SettingsError("agent.toml", [f"server.ca_file: {ca_file} holds no certificate in PEM form"]) from None
    except OSError as error:
        raise SettingsError("agent.toml", [f"server.ca_file: {ca_file} cannot be read: {error.strerror}"]) from None
    if identity is not None:
        try:
            if identity.chain_pem.strip():
                made.load_verify_locations(cadata=identity.chain_pem)
            made.load_cert_chain(str(identity.certificate_file), str(identity.key_file))
        except (OSError, ssl.SSLError) as error:
            raise IdentityBrokenError(f"key and certificate cannot be used: {error}", AGAIN) from None
    if not check_dates:
        made.verify_flags = ssl.VerifyFlags(int(made.verify_flags) | NO_CHECK_TIME)
    return made
