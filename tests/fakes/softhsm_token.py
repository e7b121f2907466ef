"""A PKCS#11 token in software (softhsm2), in a folder of its own."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any


class SoftToken:
    """One token, ``Rookery``, with the keys that are made on it."""

    PIN = "4711-0815"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tokens").mkdir(parents=True)
        self.config = folder / "softhsm2.conf"
        self.config.write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n")
        places = ("softhsm/libsofthsm2.so", "*/softhsm/libsofthsm2.so")
        self.module = next(path for place in places for path in Path("/usr/lib").glob(place))
        self._call("--init-token", "--free", "--label", "Rookery", "--so-pin", "12345678", "--pin", self.PIN)

    @staticmethod
    def missing() -> bool:
        """Whether softhsm2 is not installed."""
        return shutil.which("softhsm2-util") is None

    def make(self, name: str, label: str, keyid: str) -> str:
        """Put a fresh P-256 key on the token; answers its reference."""
        pem = self.folder / f"{name}.pem"
        subprocess.run(
            ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", pem],
            check=True, capture_output=True,
        )  # fmt: skip
        self._call("--import", str(pem), "--token", "Rookery", "--label", label, "--id", keyid, "--pin", self.PIN)
        pem.unlink()
        return f"pkcs11:token=Rookery;object={label}?module-path={self.module}"

    def environment(self, desk: Any = None) -> dict[str, str]:
        """What finds the token."""
        return {"SOFTHSM2_CONF": str(self.config)}

    def _call(self, *arguments: str) -> None:
        environment = {**os.environ, "SOFTHSM2_CONF": str(self.config)}
        subprocess.run(["softhsm2-util", *arguments], env=environment, check=True, capture_output=True, timeout=60)
