"""Make a virtual environment with pip in it: `python3 .ci/make_venv.py DIR`.

Debian leaves `ensurepip` out of its Python, so `python3 -m venv` fails on a machine with Python and nothing else. There
the newest pip is taken from the package index, checked against the index's hash, and used to install itself.
"""

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import venv
from pathlib import Path

_WHEEL = re.compile(r'href="([^"]*/(pip-(\d+(?:\.\d+)*)-py3-none-any\.whl))#sha256=([0-9a-f]{64})"')


def main(folder: Path) -> None:
    """Make the environment."""
    venv.EnvBuilder(symlinks=os.name != "nt", clear=True).create(folder)
    python = folder / "bin" / "python"
    if importlib.util.find_spec("ensurepip") is not None:
        # Where the module is there without its wheels it fails, and the index is asked all the same.
        ensured = subprocess.run([python, "-m", "ensurepip", "--upgrade"], capture_output=True, check=False)
        if ensured.returncode == 0:
            return
    with tempfile.TemporaryDirectory() as scratch:
        wheel = fetch_pip(Path(scratch))
        subprocess.run([python, wheel / "pip", "install", "--quiet", "--no-index", wheel], check=True)


def fetch_pip(folder: Path) -> Path:
    """Download the newest pip from the package index into `folder`."""
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/") + "/pip/"
    request = urllib.request.Request(index, headers={"Accept": "text/html"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found = _WHEEL.findall(answer.read().decode())
    if not found:
        sys.exit(f"error: {index} offers no pip. Install your system's package for venv, such as python3-venv.")
    url, name, _, sha256 = max(found, key=lambda wheel: [int(part) for part in wheel[2].split(".")])
    with urllib.request.urlopen(urllib.parse.urljoin(index, url), timeout=60) as answer:
        content = answer.read()
    if hashlib.sha256(content).hexdigest() != sha256:
        sys.exit(f"error: {name} does not have the hash that {index} states.")
    path = folder / name
    path.write_bytes(content)
    return path


if __name__ == "__main__":
    main(Path(sys.argv[1]))
