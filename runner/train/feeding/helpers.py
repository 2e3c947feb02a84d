"""Helpers that transform batches for a rank, ahead of it. Each has a thread here that gives it one batch at a time.

A helper that dies costs the batch that it was at work on, which another one begins again, and is replaced. How they are
started is the gang's affair.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from concurrent.futures import CancelledError, Future, InvalidStateError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from runner.data.stream.steps import Ready
from runner.errors import DataError, OutOfMemory, RunFailed, RunnerError, WorkerLost
from runner.train.feeding.parcel import Parcel, pack, unpack
from runner.train.feeding.transform import place_of

if TYPE_CHECKING:
    from runner.data.stream.media.steps import Decoding

#: How often a batch is begun whose helper dies; and how many helpers may die before they can work, one after the other.
MOST_TRIES = 3
#: Seconds until another is started in the place of one that has died before it could work, while others do.
PAUSE_S = 5.0


class HelperLost(Exception):
    """A helper is gone. `error` says how, in our words."""

    def __init__(self, error: WorkerLost) -> None:
        super().__init__(error)
        self.error = error


class Helper(Protocol):
    """A process that transforms batches."""

    def ready(self) -> None:
        """Return when it can work. Raises HelperLost, also if it has not come for long."""
        ...

    def call(self, parcel: Parcel) -> Parcel:
        """The answer to a batch. Raises HelperLost."""
        ...

    def end(self) -> None:
        """End it, whatever it does, from any thread: what waits for it then raises HelperLost."""
        ...


class Launcher(Protocol):
    """Starts the helpers of one rank."""

    @property
    def count(self) -> int:
        """How many."""
        ...

    def start(self, number: int) -> Helper:
        """A helper. Raises HelperLost."""
        ...


@dataclass(eq=False)
class _Task:
    ready: Ready
    decoding: Decoding | None
    future: Future[dict[str, Any]] = field(default_factory=Future)
    tries: int = 0


class Helpers:
    """The helpers of one rank; they are started by the first batch.

    Args:
        where: the stage, for words.
    """

    def __init__(self, launcher: Launcher, where: str) -> None:
        self._launcher, self._where = launcher, where
        self.count = launcher.count
        self._waiting: deque[_Task] = deque()
        self._change = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._there: dict[int, Helper] = {}
        self._working = 0  # helpers that can be given a batch
        self._dead_at_start = 0  # one after the other, while none works
        self._failed: RunnerError | None = None
        self._closed = False

    def submit(self, ready: Ready, decoding: Decoding | None = None) -> Future[dict[str, Any]]:
        """Have a batch transformed; those that were submitted first are begun first.

        Args:
            decoding: of its columns, which is done before; it must be picklable.

        Returns:
            Of its columns. It raises what the transform has raised, WorkerLost, or CancelledError after `close`.
        """
        task = _Task(ready, decoding)
        with self._change:
            if self._failed is not None:
                task.future.set_exception(self._failed)
            elif self._closed:
                task.future.cancel()
            else:
                self._waiting.append(task)
                self._change.notify()
                self._start()
        return task.future

    def close(self) -> None:
        """End the helpers."""
        with self._change:
            self._closed = True
            self._change.notify_all()
            there, waiting = list(self._there.values()), list(self._waiting)
            self._waiting.clear()
        for task in waiting:
            task.future.cancel()
        for helper in there:
            helper.end()
        for thread in self._threads:
            thread.join()

    def _start(self) -> None:
        for number in range(len(self._threads), self.count):
            thread = threading.Thread(target=self._serve, args=(number,), name=f"runner-data-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    # -- one thread ----------------------------------------------------------------------------------------------

    def _serve(self, number: int) -> None:
        """Keep one helper, and give it batches."""
        helper: Helper | None = None
        while not self._closed:
            try:
                helper = self._begun(number)
                self._work(helper)
            except HelperLost as lost:
                if helper is None:
                    self._note_dead_at_start(lost)
            except Exception as error:
                self._fail(error if isinstance(error, RunnerError) else RunFailed(f"{self._where}: {error!r}"))
                return
            finally:
                self._leave(number)
                helper = None

    def _begun(self, number: int) -> Helper:
        helper = self._launcher.start(number)
        with self._change:
            self._there[number] = helper
            closed = self._closed
        if closed:
            helper.end()
        helper.ready()
        return helper

    def _leave(self, number: int) -> None:
        with self._change:
            helper = self._there.pop(number, None)
        if helper is not None:
            helper.end()

    def _work(self, helper: Helper) -> None:
        with self._change:
            self._working, self._dead_at_start = self._working + 1, 0
        try:
            self._give_batches(helper)
        finally:
            with self._change:
                self._working -= 1

    def _give_batches(self, helper: Helper) -> None:
        while (task := self._take()) is not None:
            if task.future.cancelled():
                continue
            task.tries += 1
            try:
                answer = helper.call(pack((task.ready, task.decoding)))
            except HelperLost as lost:
                self._lost(task, lost)
                raise
            except Exception as error:
                _settle(task.future, error)  # `_fail` knows only of those that wait
                raise
            kind, value = self._unpacked(answer, task)
            _settle(task.future, value if kind == "error" else None, value)

    def _unpacked(self, answer: Parcel, task: _Task) -> tuple[str, Any]:
        try:
            kind, value = unpack(answer)
        except Exception as error:  # of the user's classes
            return "error", DataError(
                f"it returned a value for {place_of(task.ready)} that cannot be made again in the rank: {error!r}",
                allowed="arrays, tensors, and lists of what can be pickled and unpickled",
                todo="return such values, or say on_data='inline'",
                where=self._where,
            )
        return kind, value

    def _take(self) -> _Task | None:
        with self._change:
            self._change.wait_for(lambda: self._closed or self._waiting)
            return None if self._closed else self._waiting.popleft()

    # -- losses --------------------------------------------------------------------------------------------------

    def _lost(self, task: _Task, lost: HelperLost) -> None:
        """Have the batch begun again, before all others, unless it has taken too many helpers along."""
        if self._closed:
            _settle(task.future, CancelledError())
        elif task.tries < MOST_TRIES:
            print(f"runner: {lost.error}, at work on {place_of(task.ready)}: it is begun again", flush=True)
            with self._change:
                self._waiting.appendleft(task)
                self._change.notify()
        else:
            words = f"{self._where}: {place_of(task.ready)} has ended {task.tries} workers; the last: {lost.error}"
            _settle(task.future, _of_kind(lost, words))

    def _note_dead_at_start(self, lost: HelperLost) -> None:
        """Those that work go on without it. Another is started after a pause."""
        with self._change:
            self._dead_at_start += not self._working
            hopeless = self._dead_at_start >= MOST_TRIES * self.count and not self._closed
            if not hopeless:
                self._change.wait_for(lambda: self._closed, PAUSE_S if self._working else 0)
        if hopeless:
            self._fail(_of_kind(lost, f"{self._where}: no worker can be started; the last: {lost.error}"))

    def _fail(self, error: RunnerError) -> None:
        """Nothing can be done any more."""
        with self._change:
            self._failed = self._failed or error
            self._closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
            self._change.notify_all()
        for task in waiting:
            _settle(task.future, error)


def _of_kind(lost: HelperLost, words: str) -> WorkerLost:
    return OutOfMemory(words) if isinstance(lost.error, OutOfMemory) else WorkerLost(words)


def _settle(future: Future[dict[str, Any]], error: BaseException | None, result: Any = None) -> None:
    """Say how a batch ended, unless its end was not waited for."""
    with contextlib.suppress(InvalidStateError):
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
