"""Processes forked from one that has imported everything (clients.py), as a test holds them."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from runner.kube import names
from runner.kube.client import JOBS, PODS, Kube, KubeError
from runner.kube.watch import Watched
from tests.cluster import kit


class Fork:
    """A process of the warm parent.

    Args:
        pid: of it.
        then: called with its exit code at its end (negative: the signal that ended it).
    """

    def __init__(self, pid: int, then: Callable[[int], None] | None) -> None:
        self.pid, self._then = pid, then
        self._over = threading.Event()
        self.code: int | None = None

    def end(self, code: int) -> None:
        """Take down that it has ended."""
        self.code = code
        self._over.set()
        if self._then is not None:
            self._then(code)

    def kill(self) -> None:
        """With -9."""
        if not self._over.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Its exit code."""
        assert self._over.wait(120)
        assert self.code is not None
        return self.code


class Warm:
    """The parent. Args: log: where its children write."""

    def __init__(self, log: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(kit.CHECKOUT), "CLIENTS_LOG": str(log)}
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.clients"],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._asking, self._changing = threading.Lock(), threading.Lock()
        self._begun: queue.Queue[int] = queue.Queue()
        self._forks: dict[int, Fork] = {}
        self._early: dict[int, int] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def fork(self, kind: str, argument: str, then: Callable[[int], None] | None = None) -> Fork:
        """See clients.py for the kinds."""
        with self._asking:
            assert self._parent.stdin is not None
            self._parent.stdin.write(json.dumps([kind, argument]) + "\n")
            self._parent.stdin.flush()
            made = Fork(self._begun.get(timeout=60), then)
        with self._changing:
            code = self._early.pop(made.pid, None)
            if code is None:
                self._forks[made.pid] = made
        if code is not None:
            made.end(code)
        return made

    def close(self) -> None:
        """End the parent, and what it has left."""
        for fork in list(self._forks.values()):
            fork.kill()
        self._parent.kill()
        self._parent.wait()

    def _listen(self) -> None:
        assert self._parent.stdout is not None
        for line in self._parent.stdout:
            said = json.loads(line)
            if "began" in said:
                self._begun.put(said["began"])
                continue
            with self._changing:
                fork = self._forks.pop(said["ended"], None)
                if fork is None:
                    self._early[said["ended"]] = said["code"]
            if fork is not None:
                threading.Thread(target=fork.end, args=(said["code"],), daemon=True).start()


class Supervisors:
    """In place of simulated pods: for each supervisor's Job the process that its pod would be, until it ends well.

    Attributes:
        started: run -> how often.
        working: runs whose Job has not ended.
    """

    def __init__(self, kube: Kube, warm: Warm) -> None:
        self._kube, self._warm = kube, warm
        self.started: dict[str, int] = {}
        self.working: set[str] = set()
        self._watched = Watched(kube, JOBS, f"{names.ROLE}={names.SUPERVISOR}", lambda: None, self._saw)

    def _saw(self, job: dict[str, object]) -> None:
        name = str(job["metadata"]["name"])  # type: ignore[index]
        if name not in self.started:
            (container,) = job["spec"]["template"]["spec"]["containers"]  # type: ignore[index]
            argument = next(each["value"] for each in container["env"] if each["name"] == "RUNNER_ARGUMENT")
            self.started[name] = 0
            self.working.add(name)
            self._start(name, argument)

    def _start(self, name: str, argument: str) -> None:
        self.started[name] += 1
        self._warm.fork("supervise", argument, lambda code: self._ended(name, argument, code))

    def _ended(self, name: str, argument: str, code: int) -> None:
        if code and self.started[name] < 5:  # as the Job does
            self._start(name, argument)
            return
        for pod in self._kube.select(PODS, f"{names.of_run(name)},{names.ROLE}={names.SUPERVISOR}"):
            with contextlib.suppress(KubeError):  # it goes with its Job
                self._kube.patch(PODS, pod["metadata"]["name"], {"status": {"phase": "Succeeded"}}, "status")
        self.working.discard(name)

    def close(self) -> None:
        """Look no more."""
        self._watched.close()
