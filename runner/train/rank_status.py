"""Where every rank is: what each publishes of itself, and what follows for one that waits for others.

A rank that waits at a meeting of ours can look around; one that waits in a collective of the user's cannot. So each
has a thread that says once a second what its function does. From that a waiting rank concludes that another will never
come, because that one waits in a collective which this one has not joined. Nothing is concluded from time alone: a
rank may compute, read or save for as long as it likes.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.code import traces
from runner.train.early_exchange import Early

if TYPE_CHECKING:
    from runner.train.store_values import Store

#: Seconds between what a rank publishes.
EVERY_S = 1.0
#: Seconds for which a rank must not have moved to count as waiting; on a GPU waiting looks like work, so longer.
STILL_S, STILL_GPU_S = 4.0, 30.0
#: Seconds after which a rank that waits says so in its log.
SAY_S = (30.0, 300.0, 1500.0)
#: The part of one core below which a thread counts as idle.
_IDLE = 0.2


@dataclass
class Place:
    """Where one rank is.

    Args:
        meetings: that it has come to; where: the last one's words; step: it had made then.
        steps: that it has made.
        issued: collectives that it has begun in groups of all ranks since its last meeting was over; None where torch
            does not tell.
        base: those that it had begun when its last meeting was over.
        still_s: seconds for which its function has not moved, nor used its core.
        in_torch: whether it is in a call of torch.
        line: of its own code, in words.
    """

    meetings: int = 0
    where: str = ""
    step: int = 0
    steps: int = 0
    issued: int | None = None
    base: int | None = 0
    still_s: float = 0.0
    in_torch: bool = False
    line: str = ""

    def waits(self, still_s: float) -> bool:
        """Whether the rank there waits in a call of torch."""
        return self.in_torch and self.still_s >= still_s


def stuck(mine: Place, away: dict[int, Place], still_s: float) -> list[int]:
    """The ranks that wait in a collective which this rank, waiting at its own meeting, has not joined.

    None as long as one that is away moves: the others may wait for that one.

    Args:
        away: every rank that has not come to the meeting.
    """
    if mine.issued is None or not all(place.waits(still_s) for place in away.values()):
        return []
    before = {r: p.issued for r, p in away.items() if p.meetings == mine.meetings - 1}  # both count from one meeting
    return [r for r, begun in before.items() if begun is not None and begun > mine.issued]


def words_of(rank: int, place: Place, number: int) -> str:
    """Where a rank is, seen from meeting `number`."""
    if place.meetings >= number:
        return at_meeting(rank, place.where, place.step)
    return f"rank {rank} is at {place.line or 'a place unknown'}, after {steps(place.steps)}"


def at_meeting(rank: int, where: str, step: int) -> str:
    """A rank at one of our meetings. The words of the last one are a sentence of their own."""
    verb = "has returned from" if where == RETURNED else "is at"
    return f"rank {rank} {verb} {where} after {steps(step)}"


def steps(number: int) -> str:
    """A count in words."""
    return f"{number} step{'' if number == 1 else 's'}"


#: The meeting after the function has returned.
RETURNED = "the train function"


class Board:
    """Publishes this rank's place, and reads the others'.

    Args:
        store: of the gang; this takes connections of its own to it.
        early: what else is told now and then.
        on_gpu: whether waiting may look like work.
    """

    def __init__(
        self, store: Store, rank: int, world_size: int, now: Callable[[], Place], early: Early, on_gpu: bool
    ) -> None:
        self._store, self._lock = store.clone(), threading.Lock()
        self._rank, self._world_size, self._now, self._early = rank, world_size, now, early
        self._watch = _Stillness(threading.get_ident(), uses_core=not on_gpu)
        self._left = threading.Event()
        self.still_s = STILL_GPU_S if on_gpu else STILL_S
        self._said = 0
        threading.Thread(target=self._publish, name="runner-place", daemon=True).start()

    def others(self) -> dict[int, Place]:
        """The places of the other ranks, as far as they have told."""
        keys = {rank: f"place/{rank}" for rank in range(self._world_size) if rank != self._rank}
        found = {}
        with self._lock:
            for rank, key in keys.items():
                if self._store.check([key]):
                    found[rank] = Place(**json.loads(self._store.get(key)))
        return found

    def close(self) -> None:
        """Publish no more."""
        self._left.set()

    def _publish(self) -> None:
        import torch.distributed as dist

        while not self._left.wait(EVERY_S):
            place = self._now()
            begun = issued(self._world_size)
            place.issued = since(begun, place.base)
            place.still_s, place.in_torch, place.line = self._watch.look(begun)
            try:
                with self._lock:
                    self._store.set(f"place/{self._rank}", json.dumps(asdict(place)))
                    self._early.look(self._store)
                self._say(place)
            except dist.DistError:  # the gang is ending, and rank 0 with the store is gone
                break
        self._early.give_up()

    def _say(self, place: Place) -> None:
        """A rank that stays in a call of torch may wait for one that will not come: say where all are."""
        if place.still_s < SAY_S[0]:
            self._said = 0
        if not place.in_torch or self._said == len(SAY_S) or place.still_s < SAY_S[self._said]:
            return
        self._said += 1
        others = "; ".join(words_of(rank, other, other.meetings + 1) for rank, other in sorted(self.others().items()))
        print(
            f"runner: rank {self._rank} has not moved for {place.still_s:.0f} s at {place.line}; {others}", flush=True
        )


class _Stillness:
    """For how long a thread has not moved."""

    def __init__(self, thread: int, uses_core: bool) -> None:
        self._thread = thread
        self._clock = _clock_of(thread) if uses_core else None
        self._last: Any = None
        self._since = self._looked = time.monotonic()
        self._used = 0.0

    def look(self, also: Any) -> tuple[float, bool, str]:
        """Seconds without a move, whether the innermost call is torch's, and the user's own line.

        Args:
            also: a change of it is a move.
        """
        frame, now = sys._current_frames().get(self._thread), time.monotonic()
        # with the callers: a call like the last one, made from elsewhere, may have got the last one's frame
        here = ([(id(called), called.f_lasti) for called, _ in traceback.walk_stack(frame)] if frame else [], also)
        used = self._clock() if self._clock is not None else 0.0
        busy = (used - self._used) / max(now - self._looked, 1e-6) > _IDLE
        if here != self._last or busy:
            self._since = now
        self._last, self._used, self._looked = here, used, now
        in_torch = frame is not None and frame.f_code.co_filename.startswith(_torch_folder())
        return now - self._since, in_torch, traces.user_place(frame)


@functools.cache
def _torch_folder() -> str:
    import torch

    return str(Path(torch.__file__).parent) + os.sep


def since(begun: int | None, base: int | None) -> int | None:
    """What has been begun after `base`, where both are known."""
    return None if begun is None or base is None else begun - base


def _clock_of(thread: int) -> Callable[[], float]:
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.process_time
    clock = time.pthread_getcpuclockid(thread)
    return lambda: time.clock_gettime(clock)


def issued(world_size: int) -> int | None:
    """The collectives that this process has begun in groups of all ranks; None where torch does not tell."""
    from torch.distributed import distributed_c10d

    try:
        groups = [group for group in distributed_c10d._world.pg_map if group.size() == world_size]
        backends = [group._get_backend(device) for group in groups for device in group._device_types]
        return sum(backend._get_sequence_number_for_group() for backend in backends)  # type: ignore[attr-defined]
    except (AttributeError, RuntimeError):  # no part of torch's promises
        return None
