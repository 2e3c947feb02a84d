"""Meetings of ranks without processes: threads over one store, and what is concluded of ranks that do not come."""

from __future__ import annotations

import re
import threading
import time
import types
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch.distributed as dist

from runner.errors import RunFailed
from runner.train import early_exchange, rank_status
from runner.train import peers as train_peers
from runner.train.peers import Peers, check_places
from runner.train.rank_status import RETURNED, STILL_S, Place, stuck


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dist.Store:
    """A store of this process, for ranks that tell their places often. A gang's own is a TCPStore: each connection to
    it asks the resolver for names, which takes 5 s now and then where that has no answer.
    """
    monkeypatch.setattr(rank_status, "EVERY_S", 0.02)
    monkeypatch.setattr(train_peers, "EVERY_S", 0.02)
    return dist.HashStore()


def ranks(store: dist.Store, *functions: Callable[[Peers], Any]) -> list[Any]:
    """What each function returned, or the exception that it raised, each on a rank of its own."""
    found: list[Any] = [None] * len(functions)

    def run(rank: int) -> None:
        peers = Peers(rank, len(functions), store)
        try:
            found[rank] = functions[rank](peers)
        except Exception as error:
            found[rank] = error
        peers.leave()

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def test_values_go_to_rank_0_and_its_answer_to_all(store: dist.Store) -> None:
    """Values come in the order of ranks, one meeting after the other, and the store keeps none of them."""

    def meet(peers: Peers) -> list[Any]:
        return [peers.meet("here", (peers.rank, n), list) for n in range(3)]

    found = ranks(store, meet, meet, meet)
    assert found == [[[(0, n), (1, n), (2, n)] for n in range(3)]] * 3
    assert not store.check(["1/0"])
    assert not store.check(["2/told"])


def test_values_larger_than_the_store_takes_at_once_arrive() -> None:
    """It ends connections that send 8 MiB: a value, and an answer, goes in parts, all of which are removed."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    large = bytes(range(256)) * (9 << 12)

    def meet(peers: Peers) -> Any:
        found = peers.meet("here", large if peers.rank else b"", lambda values: [len(values[0]), values[1][1:]])
        peers.meet("there")
        return found

    assert ranks(store, meet, meet) == [[0, large[1:]]] * 2
    assert not store.check(["1/told"])
    assert store.num_keys() < 10, "none of the parts is left"


def test_error_of_the_answer_is_raised_on_every_rank(store: dist.Store) -> None:
    """What rank 0 finds wrong with the values is every rank's error."""

    def refuse(values: list[Any]) -> None:
        raise RunFailed(f"not {values}")

    found = ranks(store, *[lambda peers: peers.meet("here", 1, refuse)] * 2)
    assert [str(error) for error in found] == ["not [1, 1]"] * 2


def test_ranks_at_different_places_are_told_at_once(store: dist.Store) -> None:
    """Every rank gets the error that names who is where, after how many steps."""

    def returned(peers: Peers) -> None:
        peers.step = 1
        peers.meet(RETURNED)

    def validates(peers: Peers) -> None:
        peers.step = 8
        peers.meet("the end of phase 'v'")

    found = ranks(store, validates, returned)
    words = (
        "ranks are out of step: rank 0 is at the end of phase 'v' after 8 steps; rank 1 has returned from the train "
        "function after 1 step. "
    )
    assert all(isinstance(error, RunFailed) and str(error).startswith(words) for error in found)


def test_same_place_at_different_steps_is_out_of_step() -> None:
    """A barrier of ranks that made different numbers of steps is an error; one of the same is none."""
    check_places([("ctx.barrier()", 3)] * 4)
    with pytest.raises(RunFailed, match=r"rank 0 is at ctx.barrier\(\) after 3 steps; rank 2 .* after 4 steps"):
        check_places([("ctx.barrier()", 3), ("ctx.barrier()", 3), ("ctx.barrier()", 4)])


HERE = Place(meetings=5, where="ctx.step()", step=9, steps=9, issued=20)
STUCK = Place(meetings=4, steps=8, issued=21, still_s=STILL_S, in_torch=True, line="jobs/a.py:9 (loss.backward())")


def test_rank_in_a_collective_that_this_one_has_not_joined_is_stuck() -> None:
    """It is concluded where all of it holds, of each such rank."""
    assert stuck(HERE, {1: STUCK, 3: STUCK}, STILL_S) == [1, 3]
    assert stuck(HERE, {}, STILL_S) == []


@pytest.mark.parametrize(
    "healthy",
    [
        {"issued": 20},  # both have joined the same collectives: it computes on what came of them
        {"still_s": STILL_S / 2},  # it moves, or uses its core
        {"in_torch": False, "still_s": 1e6},  # it sleeps, reads, or sits in a debugger
        {"issued": None},  # nothing is known
        {"meetings": 3},  # what it told is older than the meeting from which this rank counts
    ],
)
def test_slow_rank_is_not_stuck(healthy: dict[str, Any]) -> None:
    """Nothing is concluded of a rank that may still come, however long it takes."""
    assert stuck(HERE, {1: replace(STUCK, **healthy)}, STILL_S) == []


def test_collectives_are_counted_from_the_last_meeting(store: dist.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks that begin different numbers of them, as in a pipeline, are compared by what they began since."""
    begun = {0: 7, 1: 40}
    number = threading.local()
    monkeypatch.setattr(train_peers, "issued", lambda world_size: begun[number.rank])

    def meet(peers: Peers) -> Place:
        number.rank = peers.rank
        peers.meet("here")
        return peers._now()

    places = ranks(store, meet, meet)
    assert [rank_status.since(begun[rank] + 2, place.base) for rank, place in enumerate(places)] == [2, 2]
    assert rank_status.since(None, 3) is rank_status.since(3, None) is None


def test_rank_0_that_is_gone_already_is_no_error(store: dist.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to hear the last word of a rank whose work is done."""
    peers = Peers(1, 2, store)

    def gone(*words: Any) -> None:
        raise dist.DistNetworkError("broken pipe")

    monkeypatch.setattr(peers, "_store", types.SimpleNamespace(set=gone))
    peers.leave()
    assert peers._board is not None
    assert peers._board._left.is_set()


def test_nothing_is_concluded_while_a_rank_moves() -> None:
    """Ranks that wait may wait for one that computes, not for those that are at the meeting."""
    assert stuck(HERE, {1: STUCK, 2: replace(STUCK, still_s=0.0)}, STILL_S) == []


def test_rank_that_waits_is_told_of_one_that_is_stuck(store: dist.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the rank that returned, and the line in which the other waits for it."""
    monkeypatch.setattr(train_peers, "issued", lambda world_size: 20)
    monkeypatch.setattr(rank_status.Board, "others", lambda self: {0: replace(STUCK, meetings=0)} if self._rank else {})
    released = threading.Event()

    def stays(peers: Peers) -> None:
        released.wait(60)

    def returns(peers: Peers) -> Any:
        peers.step = 5
        try:
            return peers.meet(RETURNED)
        finally:
            released.set()

    error = ranks(store, stays, returns)[1]
    assert str(error).startswith(
        "ranks wait for each other: rank 1 has returned from the train function after 5 steps, and rank 0 is at "
        "jobs/a.py:9 (loss.backward()), after 8 steps, in a collective that rank 1 will not come to."
    )


def test_rank_that_comes_late_is_waited_for(store: dist.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However late it comes, the meeting takes place; until then the others say for whom they wait."""
    monkeypatch.setattr(train_peers, "SAY_S", (0.1, 0.2))
    said, told = threading.Event(), []

    def say(words: str, flush: bool) -> None:
        told.append(words)
        said.set()

    monkeypatch.setattr(train_peers, "print", say, raising=False)

    def late(peers: Peers) -> Any:
        assert said.wait(60)
        return peers.meet("here", 1, sum)

    assert ranks(store, lambda peers: peers.meet("here", 2, sum), late) == [3, 3]
    assert re.search(r"at here after step 0: rank 1 is at .*test_peers.py:\d+ \(assert said.wait", told[0])


def test_rank_that_stays_in_a_collective_says_where_all_are(store: dist.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nobody can conclude anything, since the other is in the user's own code, the log tells it."""
    told: list[str] = []
    said = threading.Event()

    def say(words: str, flush: bool) -> None:
        told.append(words)
        said.set()

    monkeypatch.setattr(rank_status, "print", say, raising=False)
    stays = (STILL_S, True, "jobs/a.py:9 (loss.backward())")
    monkeypatch.setattr(rank_status, "SAY_S", (STILL_S,))
    monkeypatch.setattr(rank_status._Stillness, "look", lambda self, issued: stays)
    monkeypatch.setattr(rank_status.Board, "others", lambda self: {1: replace(STUCK, line="jobs/a.py:7 (sleep())")})

    def wait(peers: Peers) -> None:
        assert said.wait(60)

    ranks(store, wait, wait)
    assert told[0].startswith("runner: rank ")
    assert told[0].endswith(
        "for 4 s at jobs/a.py:9 (loss.backward()); rank 1 is at jobs/a.py:7 (sleep()), after 8 steps"
    )


def test_ranks_whose_steps_have_become_slow_meet_earlier(store: dist.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million steps from the one that they agreed on, all of them come to the same earlier one."""
    monkeypatch.setattr(early_exchange, "LATE_S", 0.05)

    def go(peers: Peers) -> int:
        peers.agreed(0, 10**6)
        steps = iter(range(1, 10**6))
        return next(step for step in steps if peers.reached(step) or time.sleep(0.001))

    first, second = ranks(store, go, go)
    assert first == second < 10**4


def test_a_place_tells_whether_a_thread_moves() -> None:
    """A thread that waits gets stiller with every look; one that has used its core, or moved on, has not been still."""
    release, parked, moved = threading.Event(), threading.Event(), threading.Event()

    def wait() -> None:
        parked.set()
        release.wait()
        moved.set()
        release.clear()
        release.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    assert thread.ident is not None
    parked.wait()
    watch = rank_status._Stillness(thread.ident, uses_core=True)
    watch.look(0)
    still, in_torch, line = watch.look(0)
    assert still > 0
    assert not in_torch
    assert re.search(r"test_peers.py:\d+ \(release.wait\(\)\)", line)
    assert watch.look(1)[0] == 0.0, "a collective that was begun since is a move"
    release.set()
    moved.wait()
    assert watch.look(1)[0] == 0.0
    release.set()
    thread.join()
