"""Helpers of a rank as processes of this machine, forked like the ranks from the server that has torch imported."""

from __future__ import annotations

import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from runner.errors import WorkerLost
from runner.train.feeding.helpers import Helper, HelperLost
from runner.train.feeding.parcel import Parcel, receive, send
from runner.train.gang.server import RankProcess
from runner.worker import children, processes
from runner.worker.forkserver_child import die_with_server

#: Seconds in which a process whose pipe has closed must be gone.
_GRACE_S = 2.0


@dataclass(frozen=True)
class LocalHelpers:
    """Starts helpers here.

    Args:
        count: of this rank.
        rank: whose they are.
        stage: its name.
        scope: the payload of the driver's.
        environment: the driver's.
    """

    count: int
    rank: int
    stage: str
    scope: Mapping[str, Any]
    environment: Mapping[str, str]

    def start(self, number: int) -> Helper:
        """See `Launcher`: a process, forked."""
        ours, theirs = multiprocessing.connection.Pipe()
        writer = f"data{self.rank}-{number}"
        given = theirs, dict(self.environment), dict(self.scope), self.stage, writer
        process = RankProcess(target=serve, name=f"{self.stage}-{writer}", args=given)
        process.start()
        theirs.close()
        return _LocalHelper(process, ours, f"data worker {self.rank}-{number}")


class _LocalHelper:
    """One of them, from its rank's side."""

    def __init__(self, process: RankProcess, connection: Connection, name: str) -> None:
        self._process, self._connection, self._name = process, connection, name
        self._ending = threading.Lock()
        self._ended = False

    def ready(self) -> None:
        """At once: what it is sent waits in its pipe."""

    def call(self, parcel: Parcel) -> Parcel:
        """See `Helper`."""
        try:
            send(self._connection, parcel)
            return receive(self._connection)
        except (EOFError, OSError):
            raise HelperLost(WorkerLost(f"{self._name} {self._how()}")) from None

    def _how(self) -> str:
        with self._ending:
            if self._ended:
                return "was ended"
            self._process.join(_GRACE_S)
            code = self._process.exitcode
        return "closed its pipe" if code is None else f"died of {processes.exit_words(code)}"

    def end(self) -> None:
        """See `Helper`: killed."""
        with self._ending:
            if self._ended:
                return
            self._ended = True
            self._process.kill()
            self._process.join()
            self._process.close()
            self._connection.close()


def serve(connection: Connection, environment: dict[str, str], scope: dict[str, Any], stage: str, writer: str) -> None:
    """The process of a helper: answer until the other end closes, or the rank dies."""
    die_with_server()
    children.make_ready()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the driver decides
    os.environ.clear()
    os.environ.update(environment)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    threading.Thread(target=_die_with_rank, daemon=True, name="runner-die-with-rank").start()
    from runner.train.feeding.answer import Answers
    from runner.worker.scope import Scope

    answers = Answers(lambda: Scope.attach(scope), stage, writer)
    try:
        while True:
            send(connection, answers.answer(receive(connection)))
    except (EOFError, OSError):
        os._exit(0)  # the rank needs it no more


def _die_with_rank() -> None:
    """It may be at work for long, and nobody waits for that any more."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
