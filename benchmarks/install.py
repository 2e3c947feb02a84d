"""What an installation of the wheel takes: seconds of pip and of uv, and the size of what is installed.

    python benchmarks/install.py [--extras "" train all] [--tools uv pip] [--wheel dist/lake_runner-0.1.0.whl]

Each is installed into an empty environment, at the versions of constraints.txt, with a cache of its own that is empty:
every file is downloaded, and unpacked. So the seconds are also those of the index and of the network.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UV = Path(sys.executable).parent / "uv"


def build(folder: Path) -> Path:
    """The wheel of this repository."""
    command = [UV, "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable]
    subprocess.run([*command, "--out-dir", folder], cwd=ROOT, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def versions(folder: Path) -> Path:
    """The pins of constraints.txt without their hashes: pip would ask for one of the wheel, too."""
    pins = re.findall(r"^[^#\s][^\\\n]*", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    path = folder / "versions.txt"
    path.write_text("\n".join(pins))
    return path


def install(tool: str, wheel: Path, extras: str) -> tuple[float, float, int]:
    """(seconds, MB installed, packages)"""
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder, "env")
        subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, environment], check=True)
        python = environment / "bin/python"
        caches = {"UV_CACHE_DIR": f"{folder}/uv", "PIP_CACHE_DIR": f"{folder}/pip"}
        what = ["--quiet", "--constraint", versions(Path(folder)), f"{wheel}[{extras}]" if extras else wheel]
        commands = {
            "uv": [UV, "pip", "install", "--python", python, *what],
            "pip": [sys.executable, "-m", "pip", "--python", python, "install", *what],
        }
        begun = time.monotonic()
        subprocess.run(commands[tool], env={**os.environ, **caches}, check=True)
        seconds = time.monotonic() - begun
        (packages,) = environment.glob("lib/python*/site-packages")
        files = [path.stat().st_blocks * 512 for path in environment.rglob("*") if not path.is_symlink()]
        return seconds, sum(files) / 1e6, len(list(packages.glob("*.dist-info")))


def main() -> None:
    """Print a line for each installation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", nargs="*", default=["", "kube", "train", "all"])
    parser.add_argument("--tools", nargs="*", default=["uv", "pip"], choices=["uv", "pip"])
    parser.add_argument("--wheel", type=Path, help="instead of this repository's")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = given.wheel.resolve() if given.wheel else build(Path(folder))
        print(f"{'extras':<12} {'tool':<4} {'seconds':>8} {'MB':>7} {'packages':>9}")
        for extras in given.extras:
            for tool in given.tools:
                seconds, size, packages = install(tool, wheel, extras)
                print(f"{extras or '(none)':<12} {tool:<4} {seconds:>8.1f} {size:>7,.0f} {packages:>9}", flush=True)


if __name__ == "__main__":
    main()
