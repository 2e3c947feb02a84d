"""Starts programs that outlive us, knows them again, and waits until they answer.

A program is known by the file in ``pids/``: it runs if that process has the recorded command line, so a process that
merely got the same number (after a reboot, say) is never mistaken for it.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from runner.errors import InputError
from runner.onebox.places import LOGS, PIDS, ROOT


@dataclass(frozen=True)
class Process:
    """One program: its command line, the addresses it listens on, and how to see that it answers."""

    name: str
    argv: tuple[str, ...]
    ready: Callable[[], bool]
    listens: tuple[tuple[str, int], ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return LOGS / f"{self.name}.log"


def command_line(pid: int) -> list[str]:
    """The command line of a process; nothing for one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def running(name: str) -> int | None:
    """The number of the process that was started under this name, if it still runs."""
    try:
        recorded = json.loads((PIDS / f"{name}.json").read_text())
    except FileNotFoundError:
        return None
    return recorded["pid"] if command_line(recorded["pid"]) == recorded["argv"] else None


def start(process: Process) -> bool:
    """Start a program in a session of its own unless it runs; whether it had to be started."""
    if running(process.name):
        return False
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(ROOT)}
    with process.log.open("ab") as log:
        child = subprocess.Popen(
            process.argv,
            cwd="/",
            env={**environment, **process.environment},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    while command_line(child.pid) != list(process.argv) and child.poll() is None:
        time.sleep(0.001)  # the kernel shows a program's command line a moment after the program has begun
    record = PIDS / f"{process.name}.json"
    record.with_suffix(".new").write_text(json.dumps({"pid": child.pid, "argv": process.argv}))
    record.with_suffix(".new").rename(record)
    return True


def stop(name: str, timeout_s: float = 20) -> None:
    """End a program that was started under this name, if it runs, and forget it."""
    deadline = time.monotonic() + timeout_s
    while pid := running(name):
        kill(pid, signal.SIGTERM if time.monotonic() < deadline - timeout_s / 2 else signal.SIGKILL)
        if time.monotonic() > deadline:
            raise InputError(
                f"{name}, process {pid}, does not end", todo=f"see what it waits for: cat /proc/{pid}/stack"
            )
        time.sleep(0.05)
    (PIDS / f"{name}.json").unlink(missing_ok=True)


def await_ready(process: Process, timeout_s: float = 90) -> None:
    """Return once the program answers; raise with the end of its log if it ends or is too slow."""
    deadline = time.monotonic() + timeout_s
    while not process.ready():
        if not running(process.name):
            raise _not_up(process, "has ended")
        if time.monotonic() > deadline:
            raise _not_up(process, f"does not answer after {timeout_s:.0f} s")
        time.sleep(0.05)


def _not_up(process: Process, what: str) -> InputError:
    tail = "\n    ".join(process.log.read_text(errors="replace").splitlines()[-8:])
    return InputError(
        f"{process.name} {what}; the end of its log:\n    {tail}",
        todo=f"read {process.log}; `python -m runner.onebox up --fresh` begins anew",
    )


def answers(url: str, context: ssl.SSLContext | None = None, *, any_status: bool = False) -> bool:
    """Whether a GET is answered with success (or answered at all)."""
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return any_status
    except (OSError, ValueError):
        return False


def unverified() -> ssl.SSLContext:
    """For programs on the loopback address whose certificate they make themselves."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def kill(pid: int, number: int) -> bool:
    """Send a signal; whether the process was there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
