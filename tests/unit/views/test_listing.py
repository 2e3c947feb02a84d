"""A list of runs on Kubernetes: the index is believed where the supervisor lives, and the log is asked where not."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.record import Bundle
from runner.record.entries import Ended, Submitted
from runner.record.finding import find_run, unfinished
from runner.record.index import LIVE, Doing, IndexLine, begun_at
from runner.store import Store
from runner.views import listing
from tests.unit.record.index_kit import read_index
from tests.unit.store.s3_kit import memory_store

RUN = "r260101-000000-a-222"
HERE = Doing("running", "train", "arn:aws:eks:x:cluster/one~two/team")


@pytest.fixture
def ended(store: Store) -> Bundle:
    """A run whose log has an end, and whose index line still tells of its life."""
    bundle = Bundle(store, RUN)
    bundle.log.append(Submitted(job="a", legs=(("train",),), by="ann", inline=False))
    bundle.log.append(Ended(state="succeeded", error=None))
    bundle.index("a", LIVE, 1000.0, HERE)
    return bundle


def test_a_line_is_what_was_written(store: Store) -> None:
    """Whatever characters a context's name has; and what is no line is passed over."""
    line = IndexLine(RUN, "a", LIVE, 1000.0, HERE)
    assert IndexLine.of(line.key) == line
    assert "/" not in line.key
    assert IndexLine.of(f"{RUN}~a~succeeded~12") == IndexLine(RUN, "a", "succeeded", 12.0)


@pytest.mark.parametrize(
    "key",
    [
        "something",
        "..~a~live~0",
        ".~a~live~0",
        "~a~live~0",
        f"{RUN}/..~a~live~0",
        "r1~a~live~0",
        "index~a~live~0",
        f"{RUN}~a~live~nan",
        f"{RUN}~a~live~inf",
        f"{RUN}~a~live~-1",
        f"{RUN}~a~live~",
        f"{RUN}~a~live",
        f"{RUN}~~live~0",
        f"{RUN}~a\x1b[2J~live~0",
        f"{RUN}~a~li\u202eve~0",
        f"{RUN}~a~live~0~running~x",
        f"{RUN}~a~live~0~running~../x~w",
        f"{RUN}~a~live~0~running~x~a\x07",
        "r261399-000000-a-22~a~live~0",
        f"{RUN}\n~a~live~0",
        f"{RUN}~a~live~١",
        f"{RUN.upper()}~a~live~0",
        f"{RUN}{'x' * 40}~a~live~0",
        "r260101-000000~a~live~0",
    ],
)
def test_what_is_no_line_is_passed_over(store: Store, key: str) -> None:
    """Whoever wrote it: no path is made of it, nothing of it is shown, and the lines beside it are."""
    assert IndexLine.of(key) is None
    if "/" not in key:
        (Path(store.root) / "index").mkdir(parents=True)
        (Path(store.root) / "index" / key).touch()
        Bundle(store, RUN).index("a", "succeeded", 12.0)
        assert [line.run_id for line in read_index(store)] == [RUN]
        assert find_run(store, RUN[:9]) == RUN


@pytest.mark.parametrize(("alive", "state"), [({RUN}, "running"), (None, "running"), (set(), "succeeded")])
def test_the_index_is_believed_where_the_supervisor_lives(
    store: Store, ended: Bundle, monkeypatch: pytest.MonkeyPatch, alive: set[str] | None, state: str
) -> None:
    """Or where nobody can say; where it does not live, the log tells what the run is."""
    asked = []
    monkeypatch.setattr(listing, "living", lambda where: asked.append(where) or alive)
    (line,) = listing.run_lines(store, None)
    assert (line.state, line.stage, asked) == (state, "train" if state == "running" else None, [HERE.where])


def test_a_run_with_two_lines_is_looked_at(store: Store, ended: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever moved its line was interrupted: neither is believed."""
    store.put(f"index/{IndexLine(RUN, 'a', LIVE, 1000.0, Doing('submitted', '', HERE.where)).key}", b"")
    assert len(read_index(store)) == 2
    monkeypatch.setattr(listing, "living", lambda where: {RUN})
    (line,) = listing.run_lines(store, None)
    assert line.state == "succeeded"


def test_many_runs_of_one_place_are_asked_for_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no log is read."""
    runs = [f"r260101-00000{n}-a-222" for n in range(9)]
    for run_id in runs:
        Bundle(store, run_id).index("a", LIVE, 1000.0, HERE)
    asked = []
    monkeypatch.setattr(listing, "living", lambda where: asked.append(where) or set(runs))
    monkeypatch.setattr(listing, "_look", lambda *_: pytest.fail("a log was read"))
    assert [line.run for line in listing.run_lines(store, None)] == runs[::-1]
    assert asked == [HERE.where]


def test_runs_that_must_be_looked_at_are_looked_at_at_once() -> None:
    """In an object store, where each look is a wait: all are listed as their logs say, newest first."""
    store, memory = memory_store()
    runs = [f"r260101-0000{n:02d}-a-222" for n in range(30)]
    for run_id in runs:
        bundle = Bundle(store, run_id)
        bundle.log.append(Submitted("a", (("train",),), by="ann"))
        bundle.log.append(Ended("succeeded"))
        bundle.index("a", LIVE, 1000.0)
    memory.at_once = 0
    lines = listing.run_lines(store, None)
    assert [(line.run, line.state) for line in lines] == [(run_id, "succeeded") for run_id in runs[::-1]]
    assert memory.at_once > 4


def test_folders_of_clients_that_died_are_told_from_runs(store: Store, ended: Bundle) -> None:
    """A folder without line and log is unfinished once it is old; a run without its line, a listed run and what is no
    run are not.
    """
    dead, unlisted = "r260101-000000-dead-22", "r260101-000000-lost-22"
    for name in (dead, unlisted, "lake", "r26-notes"):
        store.put(f"{name}/code.zip", b"x")
    Bundle(store, unlisted).log.append(Submitted(job="a", legs=(("train",),), by="ann", inline=False))
    begun = begun_at(dead)
    assert begun is not None
    assert unfinished(store, begun + 1) == [dead]
    assert unfinished(store, begun) == []
