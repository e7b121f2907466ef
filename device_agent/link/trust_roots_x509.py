"""Which of the certificates that a server hands out this board believes: what its own pinned roots vouch for, and nothing more.

A server holds an issuing authority, not the root. So its word alone makes no root: a new one counts only where it comes signed
across by a root that is trusted here already, and that signature needs the key which lies offline.
"""

from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding


def believed(pinned_pem: bytes, offered_pem: str) -> list[x509.Certificate]:
    """Of the offered certificates those to trust beside the pinned ones: every link in between (it is no anchor by itself), and
    roots that a trusted root has signed across. ValueError where something cannot be read.
    """
    offered = x509.load_pem_x509_certificates(offered_pem.encode())
    between = [one for one in offered if not _is_root(one)]
    roots = [one for one in x509.load_pem_x509_certificates(pinned_pem) if _is_root(one)]
    waiting, proven = [one for one in offered if _is_root(one) and one not in roots], list[x509.Certificate]()
    while found := [root for root in waiting if any(_crosses(link, root, roots) for link in between)]:
        roots += found
        proven += found
        waiting = [one for one in waiting if one not in found]
    return [*between, *proven]


def presented(leaf: x509.Certificate, offered: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """The leaf and the links above it, as they are shown to a server: no root, nothing of other authorities."""
    way = [leaf]
    while len(way) <= len(offered):
        above = next((one for one in offered if not _is_root(one) and one not in way and _signed(way[-1], one)), None)
        if above is None:
            break
        way.append(above)
    return way


def pem(certificates: Sequence[x509.Certificate]) -> str:
    """Together as text."""
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in certificates)


def _crosses(link: x509.Certificate, root: x509.Certificate, trusted: Sequence[x509.Certificate]) -> bool:
    same = link.subject == root.subject and link.public_key() == root.public_key()
    return same and _may_sign(link) and any(_signed(link, one) for one in trusted)


def _is_root(certificate: x509.Certificate) -> bool:
    return certificate.subject == certificate.issuer


def _signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    if certificate.issuer != by.subject or not _may_sign(by):
        return False
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False
