"""The pool of Ray actors. Ray must have been started by the caller; it is imported only here, when a pool is made."""

from __future__ import annotations

import collections
import os
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.code import references
from runner.errors import Interrupted, PlanError, StageTimeout
from runner.worker import ray_words
from runner.worker.node import Node
from runner.worker.pool import child as pool_child

if TYPE_CHECKING:
    from runner.worker.scope import Scope

_LOOK_S = 0.2
#: How often an item is begun whose worker dies, in a pool whose machines come and go.
MOST_TRIES = 3


@dataclass
class _Item:
    """A piece of work, and where it is being done."""

    index: int
    value: Any
    worker: int = -1
    tries: int = 0


class RayPool:
    """Ray actors, one item at a time each. An item goes to one that is there, never to one that waits for a machine.

    Actors ask Ray for a CPU each, so a cluster that can grow does so while there is more work than actors; of a range,
    those for which there is no work any more are given back, and an item whose worker died is begun again: machines
    come and go there, and Ray cannot say at that moment whether one went or the process alone died.

    Args:
        workers: the fewest and the most actors. Of a fixed number, no more than the cluster has CPUs for.
        scope: its `stop` event ends a ``map``; its spool takes the actors' output, each on its own machine.
        stage: for which the pool works.

    Raises:
        PlanError: the cluster has no CPU, and does not grow.
    """

    def __init__(self, workers: tuple[int, int], scope: Scope, stage: str) -> None:
        import ray

        self._ray, self._scope = ray, scope
        self._actors = _Actors(workers, scope, stage)

    def __enter__(self) -> RayPool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def map(
        self, fn: Callable[[Any], Any], items: Iterable[Any], timeout_s: float | None = None
    ) -> Iterator[tuple[int, Any]]:
        """As of every pool, by actors: each has one item at a time."""
        actors, deadline = self._actors, None if timeout_s is None else time.monotonic() + timeout_s
        program = self._ray.put(pickle.dumps(fn))
        waiting = collections.deque(_Item(index, value) for index, value in enumerate(items))
        under_way: dict[Any, _Item] = {}
        try:
            while waiting or under_way:
                self._check(deadline, timeout_s)
                busy = {item.worker for item in under_way.values()}
                actors.fit(len(waiting) + len(under_way), busy)
                for number in actors.free(busy)[: len(waiting)]:
                    item = waiting.popleft()
                    item.worker, item.tries = number, item.tries + 1
                    under_way[actors.run(number, program, item.value)] = item
                for reference in self._ray.wait([*under_way, *actors.coming], timeout=_LOOK_S)[0]:
                    if reference in actors.coming:
                        actors.came(reference)
                        continue
                    item = under_way.pop(reference)
                    found = self._outcome(reference, item)
                    if found is None:
                        waiting.appendleft(item)
                    else:
                        yield item.index, found[0]
        finally:
            for item in under_way.values():
                actors.kill(item.worker)

    def close(self) -> None:
        """End the actors."""
        self._actors.close()

    def _check(self, deadline: float | None, timeout_s: float | None) -> None:
        if self._scope.stop.is_set():
            raise Interrupted("stopped before all items were done")
        if deadline is not None and time.monotonic() > deadline:
            raise StageTimeout(f"not done within {timeout_s:g} s")

    def _outcome(self, reference: Any, item: _Item) -> tuple[Any] | None:
        """The result; None if the item must be begun again."""
        try:
            kind, value = pickle.loads(self._ray.get(reference))
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.RaySystemError) as error:
            self._actors.kill(item.worker)
            if self._actors.grows and item.tries < MOST_TRIES:
                return None
            words = f"worker prep-{item.worker} died while it worked on {item.value}"
            raise ray_words.lost(words, str(error)) from None
        if kind == "error":
            raise value
        return (value,)


class _Actors:
    """As many actors as there is work for, by their numbers.

    Attributes:
        grows: whether it is a range of actors, on machines that come and go.
        coming: reference -> actor that has not answered yet.
    """

    def __init__(self, workers: tuple[int, int], scope: Scope, stage: str) -> None:
        import ray

        self._fewest, self._most = workers
        self.grows = self._fewest < self._most
        if not self.grows:
            room = int(ray.cluster_resources().get("CPU", 0.0))
            if room < 1:
                raise PlanError("the Ray cluster has no CPU for a prep worker", todo="give it one")
            self._fewest = self._most = min(self._most, room)
        self._ray, self._scope, self._stage = ray, scope, stage
        self._class = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_Actor)
        self._there: dict[int, Any] = {}
        self.coming: dict[Any, int] = {}
        self._made = 0
        self._dead_at_start = 0  # one after the other

    def __len__(self) -> int:
        return len(self._there)

    def fit(self, items: int, busy: set[int]) -> None:
        """Start actors while there are more items; of a range, give back those that have none."""
        wanted = min(self._most, items)
        while len(self._there) < wanted:
            self._start()
        if self.grows:
            coming = set(self.coming.values())
            spare = sorted(set(self._there) - busy, key=lambda number: number not in coming)
            for number in spare[: max(0, len(self._there) - max(wanted, self._fewest))]:
                self.kill(number)

    def free(self, busy: set[int]) -> list[int]:
        """Those that have answered and are not busy."""
        away = busy | set(self.coming.values())
        return [number for number in self._there if number not in away]

    def run(self, number: int, program: Any, value: Any) -> Any:
        """Have an actor work on a value; returns the reference of its answer."""
        return self._there[number].run.remote(program, pickle.dumps(value))

    def _start(self) -> None:
        """Each has a name of its own, for what it writes is kept under that."""
        number = self._made
        self._made += 1
        actor = self._class.remote(self._scope.payload(), self._stage, f"prep-{number}")
        self._there[number] = actor
        self.coming[actor.ready.remote()] = number

    def came(self, reference: Any) -> None:
        """An actor has its machine, or has died there before it could work."""
        number = self.coming.pop(reference)
        try:
            self._ray.get(reference)
            self._dead_at_start = 0
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.RaySystemError) as error:
            self.kill(number)
            self._dead_at_start += 1
            if not self.grows or self._dead_at_start >= MOST_TRIES:
                raise ray_words.lost(f"worker prep-{number} died at its start", str(error)) from None

    def kill(self, number: int) -> None:
        """End an actor, whatever it does."""
        actor = self._there.pop(number, None)
        self.coming = {reference: other for reference, other in self.coming.items() if other != number}
        if actor is not None:
            self._ray.kill(actor)

    def close(self) -> None:
        """End them all."""
        for number in list(self._there):
            self.kill(number)


class _Actor:
    """One worker on Ray."""

    def __init__(self, payload: dict[str, Any], stage: str, writer: str) -> None:
        self._node = Node(payload, stage, writer)
        root = references.code_root()
        if root is not None:
            os.chdir(root)  # Ray starts it in the folder above, where a path of the project's means nothing
        pool_child.redirect(str(self._node.scope.spool(stage, "logs", writer)))
        self._program = b""
        self._function: Callable[[Any], Any] | None = None

    def ready(self) -> None:
        """Answers once the actor is there."""

    def run(self, program: bytes, item: bytes) -> bytes:
        """The pickled outcome of the program on one item."""
        if self._function is None or program != self._program:
            self._program, self._function = program, pickle.loads(program)
        return pool_child.answer(self._function, pickle.loads(item))
