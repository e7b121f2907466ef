"""Copy the browser libraries of package-lock.json into ``static/vendor`` (maintainers only; needs npm).

``python fleet_server/dashboard/vendoring/vendor_disk.py`` installs the locked versions without running their scripts, copies a
fixed list of files with their licences, and writes VENDOR.json with version, licence and hash. Running it again changes nothing.
"""

import base64
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENDOR = HERE.parent / "static" / "vendor"
FILES = {
    "htmx.org": ("htmx", "0BSD", {"dist/htmx.min.js": "htmx.min.js", "LICENSE": "LICENSE"}),
    "@picocss/pico": ("pico", "MIT", {"css/pico.min.css": "pico.min.css", "LICENSE.md": "LICENSE"}),
    "uplot": ("uplot", "MIT", {
        "dist/uPlot.iife.min.js": "uPlot.iife.min.js", "dist/uPlot.min.css": "uPlot.min.css", "LICENSE": "LICENSE",
    }),
}  # fmt: skip


def main() -> None:
    """Install, copy, write VENDOR.json, and remove what npm laid down."""
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=HERE, check=True)
    modules = HERE / "node_modules"
    locked = json.loads((HERE / "package-lock.json").read_text())["packages"]
    entries = []
    shutil.rmtree(VENDOR, ignore_errors=True)
    for package, (name, licence, files) in FILES.items():
        version = locked[f"node_modules/{package}"]["version"]
        folder = VENDOR / f"{name}-{version}"
        folder.mkdir(parents=True)
        for source, target in files.items():
            data = (modules / package / source).read_bytes()
            (folder / target).write_bytes(data)
            digest = base64.b64encode(hashlib.sha384(data).digest()).decode()
            entries.append({"file": f"{name}-{version}/{target}", "package": package, "version": version, "licence": licence,
                            "sha384": f"sha384-{digest}"})  # fmt: skip
    (VENDOR / "VENDOR.json").write_text(json.dumps(entries, indent=1) + "\n")
    shutil.rmtree(modules)


if __name__ == "__main__":
    main()
