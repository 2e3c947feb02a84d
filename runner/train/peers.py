"""Meetings of the ranks: small Python values that go to rank 0, and its answer that goes to all.

They go over the gang's store, not over its process group. So they never mix with collectives of the user's, a rank
that waits can look around (see `board`), and ranks that come to different meetings are told apart at once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runner.errors import RunFailed, RunnerError
from runner.train import store_values
from runner.train.early_exchange import Early
from runner.train.hooks import StepHook
from runner.train.rank_status import EVERY_S, RETURNED, SAY_S, Board, Place, at_meeting, issued, since, stuck, words_of

if TYPE_CHECKING:
    from torch import Tensor

    from runner.train.checkpoint.published import Loaded
    from runner.train.metrics_rows import Item
    from runner.train.store_values import Store

#: Collectives for CPU tensors beside those of the accelerator.
GPU_BACKEND, CPU_BACKEND = "cpu:gloo,cuda:nccl", "gloo"
#: Seconds after which a rank gives up a collective, or a rank that does not move.
COLLECTIVE_TIMEOUT_S = 1800.0
#: Seconds between looks for the others, at first and at most.
_FIRST_LOOK_S, _LOOK_S = 0.0002, 0.05
#: Seconds that rank 0, which serves the store, waits for the others to have read its last answer and to say so; in
#: between they read the run's log, which may lie on a slow S3.
_LAST_S = 60.0
_RULE = "Every rank must make the same steps, phases, checkpoints and sums, and track the same"


class Peers(StepHook):
    """The ranks of a gang, and what each tells the others of where it is. A rank alone talks to itself, and no process
    group is needed.

    Args:
        store: by which the ranks found each other; None for a rank alone.
        on_gpu: whether the function works on one.
        secret: of the gang; see `exchange`.

    Attributes:
        step: steps made, for words about where ranks are.
    """

    def __init__(
        self, rank: int, world_size: int, store: Store | None = None, on_gpu: bool = False, secret: bytes = b""
    ) -> None:
        self.rank, self.world_size, self._secret = rank, world_size, secret
        self.step = 0
        self._place = Place()
        self._early = Early(rank, world_size)
        self._board: Board | None = None
        self._told: list[str] = []  # where rank 0's last answer lies
        if store is not None and world_size > 1:
            self._server = store  # kept: on rank 0 it goes with its last owner, which must not be the user's group
            self._store = store.clone()  # of this thread alone: a connection serves one call at a time
            self._board = Board(store, rank, world_size, self._now, self._early, on_gpu)

    def begin(self, loaded: Loaded | None) -> None:
        """Steps of earlier attempts count."""
        if loaded is not None:
            self.step = loaded.manifest["step"]

    def after_step(self, step: Item) -> None:
        """The others are told how far this rank is."""
        self.step = step.step

    def meet(self, where: str, value: Any = None, answer: Callable[[list[Any]], Any] | None = None) -> Any:
        """Wait until every rank has come to the same place.

        Args:
            where: the place, in words.
            value: of this rank.
            answer: called on rank 0 with the values of all ranks, in their order.

        Returns:
            What `answer` returned, on every rank.

        Raises:
            RunFailed: ranks are at different places, or one waits for something that will not come.
            RunnerError: what `answer` raised, on every rank.
        """
        if self.world_size == 1:
            return answer([value]) if answer is not None else None
        self._place = Place(self._place.meetings + 1, where, self.step, base=self._place.base)
        number = self._place.meetings
        store_values.put(self._store, f"{number}/{self.rank}", (where, self.step, value), self._secret)
        told = f"{number}/told"
        if self.rank == 0:
            result = self._answer(number, answer)
            read, self._told = self._told, store_values.put(self._store, told, result, self._secret)
            store_values.delete(self._store, read)  # the last answer: whoever has come here has read it
        else:
            self._await([told])
            result = store_values.get(self._store, told, self._secret)
        self._place.base = issued(self.world_size)
        if isinstance(result, _Raised):
            raise result.error
        return result

    def _answer(self, number: int, answer: Callable[[list[Any]], Any] | None) -> Any:
        """On rank 0: what all ranks are told, when all have come."""
        keys = [f"{number}/{rank}" for rank in range(self.world_size)]
        self._await(keys)
        found = store_values.take(self._store, keys, self._secret)
        places = [(where, step) for where, step, _ in found]
        try:
            check_places(places)
            return answer([value for _, _, value in found]) if answer is not None else None
        except RunnerError as error:
            return _Raised(error)

    def _await(self, keys: list[str]) -> None:
        """Return when the store has all keys. Now and then look where the ranks are that have not come."""
        started, looked, said = time.monotonic(), 0.0, 0
        while not self._store.check(keys):
            waited = time.monotonic() - started
            time.sleep(min(_LOOK_S, max(_FIRST_LOOK_S, waited / 20)))
            if waited - looked > EVERY_S:
                looked = waited
                words = self._look_around(waited)
                if words and said < len(SAY_S) and waited > SAY_S[said]:
                    said += 1
                    print(f"runner: waiting for {waited:.0f} s {words}", flush=True)

    def _look_around(self, waited: float) -> str:
        """Where the ranks are that have not come, in words.

        Raises:
            RunFailed: one of them never will.
        """
        assert self._board is not None
        mine, others = self._now(), self._board.others()
        mine.issued = since(issued(self.world_size), mine.base)
        number = mine.meetings
        away = {rank: place for rank, place in others.items() if place.meetings < number}
        here = at_meeting(self.rank, mine.where, mine.step)
        missing = "; ".join(words_of(rank, place, number) for rank, place in sorted(away.items()))
        never = stuck(mine, away, self._board.still_s) if len(others) == self.world_size - 1 else []
        if never:
            words = "; ".join(words_of(rank, away[rank], number) for rank in sorted(never))
            raise RunFailed(
                f"ranks wait for each other: {here}, and {words}, in a collective that rank {self.rank} "
                f"{'will not' if mine.where == RETURNED else 'has not'} come to. {_RULE}"
            )
        if waited > COLLECTIVE_TIMEOUT_S and any(p.still_s > COLLECTIVE_TIMEOUT_S for p in away.values()):
            raise RunFailed(f"{here} and has waited for {waited:.0f} s, while {missing}, and does not move")
        return f"at {mine.where} after step {mine.step}: {missing}" if away else ""

    def _now(self) -> Place:
        place = self._place
        return Place(place.meetings, place.where, place.step, self.step, base=place.base)

    def agreed(self, step: int, next_step: int) -> None:
        """Ranks have met at `step`, and have agreed on that at which they meet next."""
        self._early.agreed(step, next_step)

    def reached(self, step: int) -> bool:
        """Whether ranks meet at this step; see `early`."""
        return self._early.reached(step)

    def sum(self, values: Tensor) -> Tensor:
        """The sum of every rank's tensor, in a tensor of its own. A collective."""
        total = values.detach().clone()
        if self.world_size > 1:
            import torch.distributed as dist

            self.meet(f"ctx.sum() of {str(values.dtype).removeprefix('torch.')}{list(values.shape)}")
            dist.all_reduce(total)
        return total

    def close(self) -> None:
        """Tell the others no more where this rank is, however its function has ended."""
        if self._board is not None:
            self._board.close()

    def leave(self) -> None:
        """After the last meeting: rank 0 goes last, for it serves the store."""
        if self._board is None:
            return
        self._board.close()
        if self.rank != 0:
            with contextlib.suppress(_dist_error()):  # rank 0 has waited long enough: nothing is owed to it any more
                self._store.set(f"bye/{self.rank}", "")
            return
        keys, deadline = [f"bye/{rank}" for rank in range(1, self.world_size)], time.monotonic() + _LAST_S
        while not self._store.check(keys) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)


def _dist_error() -> type[Exception]:
    import torch.distributed as dist

    return dist.DistError


class _Raised:
    """An answer that is an error."""

    def __init__(self, error: RunnerError) -> None:
        self.error = error


def check_places(places: list[tuple[str, int]]) -> None:
    """Raise RunFailed if ranks, in their order, have come to different meetings."""
    if all(place == places[0] for place in places):
        return
    ranks: dict[tuple[str, int], int] = {}
    for rank, place in enumerate(places):
        ranks.setdefault(place, rank)
    words = "; ".join(at_meeting(rank, where, step) for (where, step), rank in ranks.items())
    raise RunFailed(f"ranks are out of step: {words}. {_RULE}")
