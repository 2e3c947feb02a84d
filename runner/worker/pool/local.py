"""The pool of local processes. They are forked from a server that has imported what they need, and die with it."""

from __future__ import annotations

import multiprocessing.connection
import os
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import util
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from runner.errors import Interrupted, StageTimeout, WorkerLost
from runner.worker import forkserver
from runner.worker.pool import child as pool_child
from runner.worker.processes import exit_words

if TYPE_CHECKING:
    from runner.worker.scope import Scope

_LOOK_S = 0.2  # how long a stop or a timeout may go unseen while nothing else happens
_GRACE_S = 2.0


@dataclass
class _Worker:
    number: int
    process: Any
    connection: Connection
    index: int | None = None  # of the item that it works on
    item: str = ""


class ProcessPool:
    """Processes on this machine.

    Args:
        workers: the most processes at a time; they are started as items come.
        scope: its `stop` event ends a ``map``; its spool takes the standard output and error of the workers.
        stage: for which the pool works.
    """

    def __init__(self, workers: int, scope: Scope, stage: str) -> None:
        self._size, self._scope, self._stage = workers, scope, stage
        forkserver.start(("pandas", "pyarrow"))  # unless the driver has done it: each worker would import them
        self._context = forkserver.context()
        self._workers: list[_Worker] = []
        # A daemonic process may not have children, and Python waits at its exit for what is not daemonic.
        self._at_exit = util.Finalize(self, _kill, (self._workers,), exitpriority=10)

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- mapping -------------------------------------------------------------------------------------------------

    def map(
        self, fn: Callable[[Any], Any], items: Iterable[Any], timeout_s: float | None = None
    ) -> Iterator[tuple[int, Any]]:
        """As of every pool, by processes: each has one item at a time."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        program = pickle.dumps(fn)
        told: set[int] = set()
        waiting = enumerate(items)
        try:
            while True:
                self._hand_out(waiting, program, told)
                busy = [worker for worker in self._workers if worker.index is not None]
                if not busy:
                    return
                for worker in self._ready(busy, deadline, timeout_s):
                    yield self._answer(worker)
        finally:
            self._end([worker for worker in self._workers if worker.index is not None], grace_s=0.0)

    def _hand_out(self, waiting: Iterator[tuple[int, Any]], program: bytes, told: set[int]) -> None:
        """Give the next items to idle workers, and start workers while there are items for them."""
        while (worker := self._idle()) is not None or len(self._workers) < self._size:
            following = next(waiting, None)
            if following is None:
                return
            worker = worker or self._start()
            index, item = following
            worker.index, worker.item = index, str(item)
            try:
                if worker.number not in told:
                    worker.connection.send_bytes(pickle.dumps(("program", program)))
                    told.add(worker.number)
                worker.connection.send_bytes(pickle.dumps(("item", item)))
            except (BrokenPipeError, ConnectionResetError):
                raise self._lost(worker) from None

    def _ready(self, busy: list[_Worker], deadline: float | None, timeout_s: float | None) -> list[_Worker]:
        """The busy workers that have answered or died; waits for one."""
        by_handle: dict[Any, _Worker] = {}
        for worker in busy:
            by_handle[worker.connection] = worker
            by_handle[worker.process.sentinel] = worker
        while True:
            if self._scope.stop.is_set():
                raise Interrupted("stopped before all items were done")
            if deadline is not None and time.monotonic() > deadline:
                raise StageTimeout(f"not done within {timeout_s:g} s; at work on {', '.join(w.item for w in busy)}")
            handles = multiprocessing.connection.wait(list(by_handle), _LOOK_S)
            if handles:
                return list({worker.number: worker for worker in (by_handle[h] for h in handles)}.values())

    def _answer(self, worker: _Worker) -> tuple[int, Any]:
        try:
            kind, value = pickle.loads(worker.connection.recv_bytes())
        except (EOFError, ConnectionResetError):
            raise self._lost(worker) from None
        index, worker.index = worker.index, None
        assert index is not None
        if kind == "error":
            raise value
        return index, value

    # -- workers -------------------------------------------------------------------------------------------------

    def _idle(self) -> _Worker | None:
        return next((worker for worker in self._workers if worker.index is None), None)

    def _start(self) -> _Worker:
        taken = {worker.number for worker in self._workers}
        number = next(n for n in range(self._size) if n not in taken)
        ours, theirs = self._context.Pipe()
        log = str(self._scope.spool(self._stage, "logs", f"prep-{number}"))
        threads = max(1, (os.cpu_count() or 1) // self._size)
        process = self._context.Process(
            target=pool_child.main, args=(theirs, log, threads), name=f"prep-{number}", daemon=False
        )
        process.start()
        theirs.close()
        worker = _Worker(number, process, ours)
        self._workers.append(worker)
        return worker

    def _lost(self, worker: _Worker) -> WorkerLost:
        worker.process.join(_GRACE_S)
        return WorkerLost(f"worker prep-{worker.number} {_death(worker.process.exitcode)}, at work on {worker.item}")

    def close(self) -> None:
        """End the workers: idle ones leave when their pipe closes, busy ones are killed."""
        self._end([worker for worker in self._workers if worker.index is not None], grace_s=0.0)
        self._end(self._workers, grace_s=_GRACE_S)
        self._at_exit.cancel()

    def _end(self, workers: list[_Worker], grace_s: float) -> None:
        workers = list(workers)
        for worker in workers:
            worker.connection.close()
            if not grace_s:
                worker.process.kill()
        for worker in workers:
            worker.process.join(grace_s or None)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.process.close()
            self._workers.remove(worker)


def _kill(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.process.kill()


def _death(code: int | None) -> str:
    if code is None:
        return "closed its pipe"
    return f"died of {exit_words(code)}"
