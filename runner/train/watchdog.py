"""A named part of a training with a timeout of its own.

The watchdog is a thread: the timeout is raised in the training's thread as soon as that is back in Python. One that
stays in a call for longer (a collective that nobody else joins) is ended with its process, where the process is ours.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from types import TracebackType

from runner.errors import StageTimeout

#: Seconds after the timeout in which a call may still return to Python.
GRACE_S = 5.0


class _TimeIsUp(BaseException):
    """Raised by the watchdog in the training's thread."""


class Watchdog:
    """Raises StageTimeout in the thread that entered it, when it has not left after `timeout_s`.

    Args:
        what: for the message, such as "phase 'validation'".
        timeout_s: None waits for ever.
        by_force: called with the error when the thread is stuck in a call; None waits on.
    """

    def __init__(
        self, what: str, timeout_s: float | None, by_force: Callable[[StageTimeout], None] | None = None
    ) -> None:
        self._error = StageTimeout(f"{what} took longer than its timeout_s={timeout_s:g}" if timeout_s else what)
        self._timeout_s, self._by_force = timeout_s, by_force
        self._left = threading.Event()
        self._lock = threading.Lock()
        self._raised = False
        self._thread = 0

    def __enter__(self) -> Watchdog:
        self._thread = threading.get_ident()
        if self._timeout_s is not None:
            threading.Thread(target=self._watch, name="runner-watchdog", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._lock:
                self._left.set()
        except _TimeIsUp as late:  # it was on its way while this thread was leaving
            self._left.set()
            raise self._error from late
        if isinstance(error, _TimeIsUp):
            raise self._error from error
        if self._raised:
            _set_async(self._thread, None)

    def _watch(self) -> None:
        if self._left.wait(self._timeout_s):
            return
        with self._lock:
            if self._left.is_set():
                return
            self._raised = True
            _set_async(self._thread, _TimeIsUp)
        if self._by_force is not None and not self._left.wait(GRACE_S):
            self._by_force(self._error)


def _set_async(thread: int, kind: type[BaseException] | None) -> None:
    """https://docs.python.org/3/c-api/init.html#c.PyThreadState_SetAsyncExc"""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind) if kind else None)
