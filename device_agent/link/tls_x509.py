"""TLS contexts: the pinned authority, nothing of the system's, and this device's certificate where it has one."""

import ssl
from pathlib import Path

from device_agent.errors import IdentityBrokenError, SettingsError
from device_agent.link.identity_x509 import AGAIN, Identity
from device_agent.link.trust_roots_x509 import believed, pem

NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME: used for the one exchange that brings the time to a board whose clock is behind."""


def dates_unchecked(made: ssl.SSLContext) -> bool:
    """Whether this context was made without a look at dates."""
    return bool(int(made.verify_flags) & NO_CHECK_TIME)


def context(ca_file: Path, identity: Identity | None = None, *, check_dates: bool = True, show: bool = True) -> ssl.SSLContext:
    """A client context that trusts the roots of ``ca_file``, what they vouch for of the chain that the server gave (a next
    root among it, see ``trust_roots_x509``), and nothing else. ``show`` False: our own certificate is not shown.

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
            more = believed(ca_file.read_bytes(), identity.chain_pem) if identity.chain_pem.strip() else []
            if more:
                made.load_verify_locations(cadata=pem(more))
            if show:
                made.load_cert_chain(str(identity.certificate_file), str(identity.key_file))
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise IdentityBrokenError(f"key and certificate cannot be used: {error}", AGAIN) from None
    if not check_dates:
        made.verify_flags = ssl.VerifyFlags(int(made.verify_flags) | NO_CHECK_TIME)
    return made
