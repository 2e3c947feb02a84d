"""What must come from the distribution: the container runtime, the network plugins and the packet filter."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from runner.errors import InputError

# What is looked for, and the Debian package that has it.
PROGRAMS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "iptables-save": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "mount": "mount",
}
PLUGINS = ("bridge", "host-local", "portmap", "loopback")
PLUGIN_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def program(name: str) -> str:
    """Where a program of the system is; its bare name if it is nowhere."""
    return shutil.which(name, path=_PATH) or name


def plugin_folder() -> Path | None:
    """The folder that has every network plugin needed."""
    return next((f for f in PLUGIN_FOLDERS if all((f / plugin).exists() for plugin in PLUGINS)), None)


def missing() -> list[str]:
    """The Debian packages that have what is not here, in order and once each."""
    packages = [package for name, package in PROGRAMS.items() if shutil.which(name, path=_PATH) is None]
    if plugin_folder() is None:
        packages.append("containernetworking-plugins")
    return sorted(set(packages))


def ensure(say: Callable[[str], None]) -> None:
    """Install what is missing, or say which command does."""
    packages = missing()
    if not packages:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if shutil.which("apt-get") is None:
        raise InputError(
            f"this machine lacks what these Debian packages have: {' '.join(packages)}",
            todo="install the same with the package manager of this system; only Debian and Ubuntu are done here",
        )
    if os.environ.get("ONEBOX_INSTALL", "").lower() in ("no", "0", "false"):
        raise InputError(f"packages are missing: {' '.join(packages)}", todo=f"run: {' '.join(command)}")
    say(f"installing {' '.join(packages)}")
    _apt(["apt-get", "update"])
    _apt(command)


def _apt(command: list[str]) -> None:
    """Run apt-get without questions."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InputError(f"`{' '.join(command)}` failed: {done.stderr.strip()[-800:]}", todo="run it by hand")
