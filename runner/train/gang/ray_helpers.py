"""Helpers of a rank as actors of Ray, on whichever machine of the cluster has room; they go with their rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from runner.errors import WorkerLost
from runner.train.feeding.helpers import Helper, HelperLost
from runner.train.feeding.parcel import Parcel
from runner.worker import ray_words

#: Seconds that a helper may take to find room, on a cluster where others may be at work; it is asked for again then.
START_S = 600.0


@dataclass(frozen=True)
class RayHelpers:
    """Starts helpers on Ray.

    Args:
        count: of this rank.
        rank: whose they are.
        stage: its name.
        scope: the payload of the driver's.
        resource: of which each takes one; None: a CPU.
    """

    count: int
    rank: int
    stage: str
    scope: Mapping[str, Any]
    resource: str | None

    def start(self, number: int) -> Helper:
        """See `Launcher`: an actor, wherever there is room; not in the place of the ranks, in which this one runs."""
        import ray

        room = {"num_cpus": 1} if self.resource is None else {"num_cpus": 0, "resources": {self.resource: 1}}
        kind = ray.remote(max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD", **room)(_Actor)
        writer = f"data{self.rank}-{number}"
        return _RayHelper(ray, kind.remote(dict(self.scope), self.stage, writer), f"data worker {self.rank}-{number}")


class _RayHelper:
    """One of them, from its rank's side."""

    def __init__(self, ray: Any, actor: Any, name: str) -> None:
        self._ray, self._actor, self._name = ray, actor, name

    def ready(self) -> None:
        """See `Helper`: it has its machine, and has loaded what it needs."""
        try:
            self._ray.get(self._actor.ready.remote(), timeout=START_S)
        except self._ray.exceptions.GetTimeoutError:
            words = f"{self._name} found no room on the Ray cluster within {START_S:g} s: ask for fewer data_workers"
            raise HelperLost(WorkerLost(words)) from None
        except self._ray.exceptions.RayError as error:
            raise HelperLost(ray_words.lost(f"{self._name} died at its start", str(error))) from None

    def call(self, parcel: Parcel) -> Parcel:
        """See `Helper`. What comes back is copied once: Ray's memory is not to be written to."""
        try:
            found = self._ray.get(self._actor.answer.remote(_carried(parcel)))
        except self._ray.exceptions.RayError as error:
            raise HelperLost(ray_words.lost(f"{self._name} died", str(error))) from None
        return [bytearray(part) for part in found]

    def end(self) -> None:
        """See `Helper`: killed."""
        self._ray.kill(self._actor)


def _carried(parcel: Parcel) -> list[Any]:
    """As arrays, which Ray carries without a copy more."""
    return [np.frombuffer(part, np.uint8) for part in parcel]


class _Actor:
    """The process of a helper."""

    def __init__(self, payload: dict[str, Any], stage: str, writer: str) -> None:
        from runner.train.feeding.answer import Answers
        from runner.worker.node import Node

        self._node = Node(payload, stage, writer)
        self._answers = Answers(lambda: self._node.scope, stage, writer)

    def ready(self) -> None:
        """Answers once the actor is there."""

    def answer(self, parcel: list[Any]) -> list[Any]:
        """Of one batch."""
        return _carried(self._answers.answer([bytearray(part) for part in parcel]))
