"""Threads that decode: tasks in chains, of which the most urgent go first."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(eq=False)
class Chain:
    """Tasks that must run one after the other, as those of one open file."""

    waiting: deque[_Task] = field(default_factory=deque)
    running: bool = False


@dataclass(eq=False)
class _Task:
    work: Callable[[], Any]
    future: Future[Any]
    urgency: tuple[int, int]


class Workers:
    """Threads that begin with the first task, and end with `close`. Tasks are given by one thread.

    Args:
        threads: how many tasks run at once.
        name: of the threads.
        patience_s: seconds that `close` waits for a task; one that takes longer is left to itself.
    """

    def __init__(self, threads: int, name: str, patience_s: float) -> None:
        self._count, self._name, self._patience_s = threads, name, patience_s
        self._ready: list[tuple[tuple[int, int], Chain]] = []
        self._change = threading.Condition()
        self._numbers = itertools.count()
        self._threads: list[threading.Thread] = []
        self._running: list[tuple[Chain, _Task]] = []
        self._closed = False

    def submit(self, chain: Chain, work: Callable[[], T], urgency: int = 0) -> Future[T]:
        """Run `work` once those before it in the chain are done.

        Args:
            urgency: the lowest goes first; equal ones in the order in which they were given.

        Raises:
            CancelledError: these are closed.
        """
        task = _Task(work, Future(), (urgency, next(self._numbers)))
        with self._change:
            if self._closed:
                raise CancelledError
            chain.waiting.append(task)
            if not chain.running and len(chain.waiting) == 1:
                self._offer(chain)
            if len(self._threads) < self._count:
                self._start()
        return task.future

    def close(self) -> None:
        """Cancel what has not begun, and wait for what has. A thread whose file does not answer ends when it does."""
        with self._change:
            self._closed = True
            waiting = [task for _, chain in self._ready for task in chain.waiting]
            for _, chain in self._ready:  # it may be used again, in other threads
                chain.waiting.clear()
            self._ready.clear()
            self._change.notify_all()
        _cancel(waiting)
        deadline = time.monotonic() + self._patience_s
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        with self._change:
            left = list(self._running)
            behind = [task for chain, _ in left for task in chain.waiting]
            for chain, _ in left:
                chain.waiting.clear()
        _cancel(behind)
        for _, task in left:
            _settle(task.future, CancelledError())

    def _offer(self, chain: Chain) -> None:
        heapq.heappush(self._ready, (chain.waiting[0].urgency, chain))
        self._change.notify()

    def _start(self) -> None:
        name = f"{self._name}-{len(self._threads)}"
        thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            chain, task = taken
            if task.future.set_running_or_notify_cancel():
                self._running.append((chain, task))
                try:
                    _settle(task.future, None, task.work())
                except BaseException as error:  # handed to whoever waits for it, whatever it is
                    _settle(task.future, error)
                self._running.remove((chain, task))
            del taken, task
            self._done(chain)

    def _take(self) -> tuple[Chain, _Task] | None:
        with self._change:
            self._change.wait_for(lambda: self._closed or self._ready)
            if self._closed:
                return None
            _, chain = heapq.heappop(self._ready)
            chain.running = True
            return chain, chain.waiting.popleft()

    def _done(self, chain: Chain) -> None:
        with self._change:
            chain.running = False
            if self._closed:
                left = list(chain.waiting)
                chain.waiting.clear()
            elif chain.waiting:
                self._offer(chain)
                return
            else:
                return
        _cancel(left)


def _settle(future: Future[Any], error: BaseException | None, result: Any = None) -> None:
    """Say how a task ended, unless its end was not waited for."""
    with contextlib.suppress(InvalidStateError):
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


def _cancel(tasks: Iterable[_Task]) -> None:
    for task in tasks:
        task.future.cancel()
        task.future.set_running_or_notify_cancel()  # or `wait` would go on waiting
