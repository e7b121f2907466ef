"""``model.sig``: OpenSSF model signing v1.0, key method. Written for others' tools, and read where a releaser asks for it. Pure.

A Sigstore bundle that holds a DSSE envelope over an in-toto statement: every file by sha256, and as subject the sha256 over their
digests in that order. It knows no expiry, channel or device: it comes beside our own signatures, never in their place.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ota.bundle.errors import BundleError

FILE_NAME = "model.sig"
LIMIT_BYTES = 4 * 1024 * 1024
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512(),
}  # fmt: skip
_WHERE = "$.model_signature"


def statement(name: str, files: Mapping[str, str], ignored: Iterable[str] = (FILE_NAME,)) -> bytes:
    """The in-toto statement over files (path -> sha256 in hex) of the model ``name``: the bytes that are signed."""
    resources = [{"name": path, "algorithm": "sha256", "digest": files[path]} for path in sorted(files)]
    serialization_rule = {
        "method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": sorted(ignored),
    }  # fmt: skip
    whole = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": _root_digest(resources)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"serialization": serialization_rule, "resources": resources},
    }
    return json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()


def sign_model(payload: bytes, sign: Callable[[bytes], bytes], public_pem: bytes) -> bytes:
    """``model.sig`` over a statement. ``sign`` gives the DER ECDSA signature of its argument under the key ``public_pem``."""
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"sig": base64.b64encode(sign(pre_authentication(payload))).decode(), "keyid": ""}],
    }
    material = {"publicKey": {"hint": key_hint(public_pem)}, "tlogEntries": []}
    whole = {"mediaType": MEDIA_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope}
    return json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()


def read_model_signature(data: bytes, keys: Iterable[bytes]) -> dict[str, str]:
    """The files (path -> sha256) that a ``model.sig`` vouches for, signed by one of these public keys (PEM).

    Raises BundleError when it is malformed, signed by another key, or does not hold. P-256, P-384 and P-521.
    """
    if len(data) > LIMIT_BYTES:
        raise BundleError(_WHERE, f"{len(data)} bytes, the limit is {LIMIT_BYTES}")
    try:
        envelope = json.loads(data)["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = [base64.b64decode(one["sig"], validate=True) for one in envelope["signatures"]]
        if envelope["payloadType"] != PAYLOAD_TYPE:
            raise BundleError(_WHERE, f"the payload is {str(envelope['payloadType'])[:80]!r}, not an in-toto statement")
        if len(signatures) != 1:
            raise BundleError(_WHERE, f"{len(signatures)} signatures; the format has one")
        _check_signature(payload, signatures[0], list(keys))
        return _files(json.loads(payload))
    except BundleError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise BundleError(_WHERE, f"not a model signature ({type(error).__name__}: {error})") from None


def check_covers(signed: Mapping[str, str], files: Mapping[str, str]) -> None:
    """Raise BundleError unless the signed files are exactly these (path -> sha256): none changed, missing or added."""
    for path in sorted(set(signed) | set(files)):
        if path not in files:
            raise BundleError(_WHERE, f"{path!r} is signed but not in the release")
        if path not in signed:
            raise BundleError(_WHERE, f"{path!r} is in the release but not signed")
        if signed[path] != files[path]:
            raise BundleError(_WHERE, f"{path!r} is not the file that was signed")


def pre_authentication(payload: bytes) -> bytes:
    """DSSE's encoding of type and payload: what the signature is over."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def key_hint(public_pem: bytes) -> str:
    """How the format names a key: sha256 of its PEM (SubjectPublicKeyInfo)."""
    return hashlib.sha256(_pem(_load(public_pem))).hexdigest()


def _root_digest(resources: list[dict[str, str]]) -> str:
    return hashlib.sha256(b"".join(bytes.fromhex(one["digest"]) for one in resources)).hexdigest()


def _load(public_pem: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_pem_public_key(public_pem)
    except ValueError:
        raise BundleError(_WHERE, "the key is not a public key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        raise BundleError(_WHERE, "the key is not of P-256, P-384 or P-521, which model signing asks for")
    return key


def _pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _check_signature(payload: bytes, signature: bytes, keys: list[bytes]) -> None:
    # Every key is tried: the hint is not signed, so it decides nothing.
    for pem in keys:
        key = _load(pem)
        try:
            key.verify(signature, pre_authentication(payload), ec.ECDSA(_HASHES[key.curve.name]))
        except InvalidSignature:
            continue
        return
    raise BundleError(_WHERE, "the signature is by none of the keys that are trusted for it, or does not hold")


def _files(signed: Any) -> dict[str, str]:
    if signed["_type"] != STATEMENT_TYPE or signed["predicateType"] != PREDICATE_TYPE:
        raise BundleError(_WHERE, f"a statement of type {str(signed['predicateType'])[:80]!r}, not {PREDICATE_TYPE}")
    rule, resources = signed["predicate"]["serialization"], signed["predicate"]["resources"]
    if rule["method"] != "files" or rule["hash_type"] != "sha256" or any(one["algorithm"] != "sha256" for one in resources):
        raise BundleError(_WHERE, "made of something else than sha256 of whole files")
    if len(signed["subject"]) != 1:
        raise BundleError(_WHERE, "more than one subject")
    files = {str(one["name"]): str(one["digest"]) for one in resources}
    if len(files) != len(resources):
        raise BundleError(_WHERE, "a file is there twice")
    try:
        whole = _root_digest(resources)
    except ValueError:
        raise BundleError(_WHERE, "a digest is not hexadecimal") from None
    if signed["subject"][0]["digest"]["sha256"] != whole:
        raise BundleError(_WHERE, "the digest over all files is not that of the files listed")
    return files
