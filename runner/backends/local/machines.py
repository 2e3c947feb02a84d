"""This machine: the driver is a process of the supervisor, and everything below it carries the run's mark.

It serves both cluster kinds that live here: `local`, where the driver uses plain processes, and `ray`, where it starts
a Ray for the run. What differs is chosen in the driver.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from typing import Any

from runner.backends.base import DriverState
from runner.backends.entry import PROGRAMS
from runner.process import private
from runner.process.code_root import ENVIRONMENTS
from runner.process.package import PACKAGE
from runner.record.endings import Ending
from runner.record.trust import Seal
from runner.worker import processes


class LocalBackend:
    """Args:
    store_url: of the root store.
    options: its storage options.
    run_id: of the run.
    skip: all results of the leg exist, so the driver starts no processes.
    sealed: of the run; see `trust`.
    """

    def __init__(
        self, store_url: str, options: dict[str, Any], run_id: str, skip: bool = False, sealed: Seal | None = None
    ) -> None:
        self._store_url, self._options, self._run_id, self._skip = store_url, options, run_id, skip
        self._sealed = sealed or {}
        self._driver: subprocess.Popen[bytes] | None = None
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)

    def attach(self, leg: int, attempt: int) -> None:
        """Nothing to take up: a driver dies with its supervisor."""

    def endings(self) -> list[Ending]:
        """None: the driver's exit says what ended it."""
        return []

    def loss(self) -> str:
        """Never: the machine is the supervisor's own."""
        return ""

    def start(self, leg: int, attempt: int) -> None:
        """Start the driver; what it prints before it opens its own log goes to driver.out in the scratch folder."""
        processes.adopt_orphans()
        scratch = processes.scratch_folder(self._run_id)
        argument = {
            "store": self._store_url, "options": self._options, "run_id": self._run_id, "leg": leg,
            "attempt": attempt, "scratch": str(scratch), "parent": os.getpid(), "skip": self._skip,
            "sealed": self._sealed,
        }  # fmt: skip
        with open(scratch / "driver.out", "ab") as out:
            self._driver = private.start_module(
                PROGRAMS["driver"],
                argument,
                self._run_id,
                env=driver_environment(self._run_id),
                cwd=scratch,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def prepare(self, leg: int) -> None:
        """Nothing to do: this machine is there."""

    def observe(self) -> tuple[DriverState, str]:
        """The driver's state, and how it ended, in words."""
        if self._driver is None:
            return DriverState.NONE, ""
        code = self._driver.poll()
        return (DriverState.RUNNING, "") if code is None else (DriverState.EXITED, self._exit_words(code))

    def wait(self, timeout_s: float) -> None:
        """Return when the driver ends (an event of its pidfd), when `wake` is called, or after `timeout_s` seconds."""
        watched = [self._wake_read]
        pidfd = self._pidfd()
        if pidfd is not None:
            watched.append(pidfd)
        select.select(watched, [], [], timeout_s)
        if pidfd is not None:
            os.close(pidfd)
        with contextlib.suppress(BlockingIOError):  # nobody called wake
            os.read(self._wake_read, 1024)
        if self._driver is not None:
            processes.reap(besides=(self._driver.pid,))

    def wake(self) -> None:
        """Make a `wait` return; safe in a signal handler."""
        os.write(self._wake_write, b"x")

    def stop(self, grace_s: float) -> None:
        """SIGTERM to the driver, and SIGKILL after `grace_s` seconds."""
        if self._driver is not None and self._driver.poll() is None:
            self._driver.terminate()
            try:
                self._driver.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._driver.kill()
                self._driver.wait()

    def clean(self) -> dict[str, Any]:
        """End every process that the run has started and remove the scratch folder."""
        left = processes.end_all(self._run_id, grace_s=2.0, below=True)
        return {"processes": left, "scratch_folders": int(processes.remove_scratch(self._run_id))}

    def _pidfd(self) -> int | None:
        if self._driver is None or self._driver.returncode is not None or not hasattr(os, "pidfd_open"):
            return None
        try:
            return os.pidfd_open(self._driver.pid)
        except ProcessLookupError:
            return None

    def _exit_words(self, code: int) -> str:
        words = processes.exit_words(code)
        out = processes.scratch_path(self._run_id) / "driver.out"
        tail = out.read_text(errors="replace").strip()[-2000:] if out.exists() else ""
        return f"{words}\n{tail}" if tail else words


def driver_environment(run_id: str) -> dict[str, str]:
    """This process's environment with the run's mark, and with runner importable."""
    environment = {**os.environ, processes.MARK: run_id, "PYTHONUNBUFFERED": "1"}
    above = PACKAGE.parent
    if ENVIRONMENTS.isdisjoint(above.parts):
        paths = [str(above), *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment
