"""Where contestants are installed: rivals need other versions than runner does, and than each other."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from benchmarks.streaming.rounds import ROOT, log

HERE = Path(__file__).resolve().parent


def python_of(name: str, folder: Path = ROOT / "build" / "streaming-environments") -> str:
    """The interpreter of an environment; it is made of `requirements-NAME.txt`, once for each content of that file.

    Raises:
        subprocess.CalledProcessError: it cannot be installed.
    """
    if name == "ours":
        return sys.executable
    pinned = HERE / f"requirements-{name}.txt"
    place = folder / f"{name}-{hashlib.sha256(pinned.read_bytes()).hexdigest()[:12]}"
    ready = place / ".ready"
    if not ready.exists():
        log(f"installing {pinned.name} (once, a minute or more)")
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)], check=True)
        into = ["--python", str(place / "bin" / "python"), "--compile-bytecode", "--requirement", str(pinned)]
        subprocess.run([*uv, "pip", "install", "--quiet", *into], check=True)
        ready.touch()
    return str(place / "bin" / "python")
