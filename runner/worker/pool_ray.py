"""The pool of Ray actors. Ray must have been started by the caller; it is imported only here, when a pool is made."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from runner.errors import Interrupted, PlanError, StageTimeout, WorkerLost
from runner.worker import pool_worker
from runner.worker.node import Node

if TYPE_CHECKING:
    from runner.worker.scope import Scope

_LOOK_S = 0.2


class RayPool:
    """Ray actors, one item at a time each.

    Args:
        workers: the most actors; no more than the cluster has CPUs for.
        scope: its `stop` event ends a ``map``; its spool takes the actors' output, each on its own machine.
        stage: for which the pool works.

    Raises:
        PlanError: the cluster has no CPU.
    """

    def __init__(self, workers: int, scope: Scope, stage: str) -> None:
        import ray

        room = int(ray.cluster_resources().get("CPU", 0.0))
        if room < 1:
            raise PlanError("the Ray cluster has no CPU for a prep worker", todo="give it one")
        self._ray, self._scope, self._stage = ray, scope, stage
        self._size = min(workers, room)
        self._actor = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_Actor)
        self._actors: dict[int, Any] = {}

    def __enter__(self) -> RayPool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def map(
        self, fn: Callable[[Any], Any], items: Iterable[Any], timeout_s: float | None = None
    ) -> Iterator[tuple[int, Any]]:
        """See Pool.map."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        program = self._ray.put(pickle.dumps(fn))
        waiting = enumerate(items)
        under_way: dict[Any, tuple[int, int, str]] = {}  # reference -> (actor, index, item in words)
        try:
            while True:
                busy = {number for number, _, _ in under_way.values()}
                while len(busy) < self._size and (following := next(waiting, None)) is not None:
                    number = next(n for n in range(self._size) if n not in busy)
                    reference = self._worker(number).run.remote(program, pickle.dumps(following[1]))
                    under_way[reference] = (number, following[0], str(following[1]))
                    busy.add(number)
                if not under_way:
                    return
                self._check(deadline, timeout_s)
                for reference in self._ray.wait(list(under_way), timeout=_LOOK_S)[0]:
                    number, index, item = under_way.pop(reference)
                    yield index, self._value(reference, number, item)
        finally:
            for number in {number for number, _, _ in under_way.values()}:
                self._kill(number)

    def _check(self, deadline: float | None, timeout_s: float | None) -> None:
        if self._scope.stop.is_set():
            raise Interrupted("stopped before all items were done")
        if deadline is not None and time.monotonic() > deadline:
            raise StageTimeout(f"not done within {timeout_s:g} s")

    def _value(self, reference: Any, number: int, item: str) -> Any:
        try:
            kind, value = pickle.loads(self._ray.get(reference))
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.RaySystemError) as error:
            self._actors.pop(number, None)
            cause = " ".join(str(error).split())
            raise WorkerLost(f"worker prep-{number} died while it worked on {item}: {cause}") from None
        if kind == "error":
            raise value
        return value

    def _worker(self, number: int) -> Any:
        if number not in self._actors:
            self._actors[number] = self._actor.remote(self._scope.payload(), self._stage, f"prep-{number}")
        return self._actors[number]

    def _kill(self, number: int) -> None:
        actor = self._actors.pop(number, None)
        if actor is not None:
            self._ray.kill(actor)

    def close(self) -> None:
        """End the actors."""
        for number in list(self._actors):
            self._kill(number)


class _Actor:
    """One worker on Ray."""

    def __init__(self, payload: dict[str, Any], stage: str, writer: str) -> None:
        self._node = Node(payload, stage, writer)
        pool_worker.redirect(str(self._node.scope.spool(stage, "logs", writer)))
        self._program = b""
        self._function: Callable[[Any], Any] | None = None

    def run(self, program: bytes, item: bytes) -> bytes:
        """The pickled outcome of the program on one item."""
        if self._function is None or program != self._program:
            self._program, self._function = program, pickle.loads(program)
        return pool_worker.answer(self._function, pickle.loads(item))
