"""An exchange before the one that was agreed on, without processes: ranks are threads over one store."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest
import torch.distributed as dist

from runner.train import early_exchange as train_early
from runner.train.early_exchange import Early


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_early, "LATE_S", 0.0)


def agreed(number: int, next_step: int) -> list[Early]:
    """Ranks that have met at step 0."""
    found = [Early(rank, number) for rank in range(number)]
    for early in found:
        early.agreed(0, next_step)
    return found


def test_ranks_at_other_steps_meet_at_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever each is when it hears of it, and with whichever delays, all meet at the same step, and soon."""
    store = dist.HashStore()
    ends = random.Random(0)

    def go(early: Early, pause: Callable[[], float], met: list[int]) -> None:
        step = 1
        while not early.reached(step):
            time.sleep(pause())
            step += 1
        met.append(step)

    for _ in range(5):
        store = dist.HashStore()
        ranks, met = agreed(4, 10**6), list[int]()
        over = threading.Event()

        def look(early: Early, pause: float, store: dist.Store = store, over: threading.Event = over) -> None:
            while not over.wait(pause):
                early.look(store)

        threads = [threading.Thread(target=go, args=(early, lambda: ends.random() / 500, met)) for early in ranks]
        threads += [threading.Thread(target=look, args=(early, 0.001 + ends.random() / 200)) for early in ranks]
        for thread in threads:
            thread.start()
        for thread in threads[:4]:
            thread.join(60)
        over.set()
        assert len(met) == 4
        assert len(set(met)) == 1
        assert met[0] < 10**4


def test_no_rank_passes_a_step_that_another_has_not_heard_of() -> None:
    """A rank that is ahead waits at its own step until all have answered; a rank that is behind goes on to it."""
    store = dist.HashStore()
    behind, ahead = agreed(2, 1000)
    assert not behind.reached(3)
    assert not ahead.reached(50)
    behind.look(store)  # asks, and answers
    ahead.look(store)  # 50 steps are more than its margin: the next one is not to be passed
    held: list[bool] = []
    waits = threading.Thread(target=lambda: held.append(ahead.reached(63)))
    waits.start()
    waits.join(0.05)
    assert waits.is_alive()
    behind.look(store)
    ahead.look(store)
    waits.join(60)
    assert held == [True]
    behind.look(store)
    assert [behind.reached(step) for step in (62, 63)] == [False, True]


def test_a_step_that_is_near_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked where the next step is the one, or where no time has passed; the agreed step is never passed."""
    store = dist.HashStore()
    first, second = agreed(2, 11)
    assert not first.reached(10)
    first.look(store)
    assert store.num_keys() == 0
    monkeypatch.setattr(train_early, "LATE_S", 100.0)
    assert not first.reached(5)
    first.look(store)
    assert store.num_keys() == 0
    monkeypatch.setattr(train_early, "LATE_S", 0.0)
    assert not second.reached(10)
    for _ in range(2):
        for early in (first, second):
            early.look(store)
    assert [first.reached(step) for step in (10, 11)] == [second.reached(step) for step in (10, 11)] == [False, True]


def test_what_was_asked_before_an_exchange_is_over_with_it() -> None:
    """An exchange that comes in between, as that of a checkpoint, settles the next step anew; no key piles up."""
    store = dist.HashStore()
    ranks = agreed(2, 100)
    for round_ in range(1, 6):
        for early in ranks:
            assert not early.reached(100 * round_ - 90)
        for _ in range(round_):  # heard by none, by some, by all
            for early in ranks:
                early.look(store)
        for early in ranks:
            early.agreed(100 * round_ - 90, 100 * round_ + 100)
        assert [early.reached(100 * round_ + 99) for early in ranks] == [False, False]
    assert store.num_keys() <= 4
