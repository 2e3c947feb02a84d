"""What ranks tell each other comes from ranks of their run alone."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from runner.errors import RunFailed
from runner.train import pipe_store, store_values
from runner.train.peers import Peers
from runner.train.pipe_store import PipeStore, Server


class Evil:
    """What runs code of a stranger's when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self._canary,)


@pytest.fixture
def pipes() -> Iterator[PipeStore]:
    """A rank's store and its server."""
    ends = Server().pipes()
    yield PipeStore(ends)
    for end in ends:
        end.close()


def test_a_pipe_has_what_meetings_use(pipes: PipeStore) -> None:
    """Values are set, asked for, read several at once and removed; both clones see the same."""
    one, other = pipes.clone(), pipes.clone()
    one.set("a", b"1")
    one.set("b", "2")
    assert other.check(["a", "b"])
    assert not other.check(["a", "c"])
    assert other.multi_get(["b", "a"]) == [b"2", b"1"]
    assert other.get("a") == b"1"
    for store in (one, dist.HashStore()):
        store.set("c", "1")
        answers = [store.compare_set(*words) for words in (("c", "2", "3"), ("c", "1", "3"), ("d", "", "4"))]
        assert answers == [b"1", b"3", b"4"]
    assert one.delete_key("a")
    assert not other.delete_key("a")
    with pytest.raises(KeyError, match="a"):
        other.get("a")


def test_ranks_meet_over_pipes() -> None:
    """Ranks that share a server meet, with values of any size, and nothing of them stays with it."""
    server, found = Server(), [None, None]
    large = bytes(9 << 20)

    def run(rank: int, ends: Any) -> None:
        peers = Peers(rank, 2, PipeStore(ends))
        found[rank] = peers.meet("here", large if rank else b"", lambda values: [len(value) for value in values])
        peers.meet("there")
        peers.leave()

    threads = [threading.Thread(target=run, args=(rank, server.pipes())) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [[0, len(large)]] * 2
    assert not [key for key in server._values if key.startswith("1/")]


def test_without_its_driver_a_rank_is_told(pipes: PipeStore) -> None:
    """A pipe whose other end is gone is a lost connection between ranks, and no fault of the function's."""
    clone = pipes.clone()
    clone._pipe.close()
    with pytest.raises(dist.DistNetworkError, match="driver of the ranks is gone"):
        clone.check(["a"])


@pytest.mark.parametrize(
    "wrong", ["no secret", "another key", "changed", "a bare pickle", "parts without end", "short"]
)
def test_nothing_of_a_stranger_is_unpickled(tmp_path: Path, wrong: str) -> None:
    """What is not proved by the gang's secret, or was written under another key, fails the rank and runs no code."""
    store, canary, secret = dist.HashStore(), tmp_path / "canary", b"secret of the gang"
    evil = Evil(canary)
    store_values.put(store, "1/0", evil, b"guessed" if wrong == "no secret" else secret)
    data = store.get("1/0")
    if wrong == "another key":
        store.set("2/0", data)
    elif wrong == "changed":
        store.set("1/0", data[:-5] + b"ABCDE")
    elif wrong == "a bare pickle":
        store.set("1/0", bytes(36) + pickle.dumps(evil))
    elif wrong == "parts without end":
        store.set("1/0", b"\xff" * 4 + data[4:])
    elif wrong == "short":
        store.set("1/0", b"\x00")
    key = "2/0" if wrong == "another key" else "1/0"
    for read in (lambda: store_values.get(store, key, secret), lambda: store_values.take(store, [key], secret)):
        with pytest.raises(RunFailed, match="written by no rank of this run"):
            read()
    assert not canary.exists()


def test_a_rank_has_two_pipes() -> None:
    """As many as meetings clone their store."""
    ends = Server().pipes()
    assert len(ends) == pipe_store.PIPES
    store = PipeStore(ends)
    peers = Peers(0, 2, store)
    assert store._pipes == []
    peers.close()
    for end in ends:
        end.close()
