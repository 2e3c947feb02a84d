"""The index of runs: what a change of state and a list of runs ask for, in a folder and in an object store."""

from __future__ import annotations

import collections
import time
from pathlib import Path
from typing import Any

import pytest

from runner.errors import RunNotFound
from runner.record import Bundle, finding
from runner.record.finding import Wanted, find_run, select
from runner.record.index import LIVE, Doing, Index, IndexLine, begun_at, leave, lines_of, show
from runner.store import Store
from runner.store.keys import is_own
from tests.unit.record.index_kit import read_index
from tests.unit.store.s3_kit import MemoryS3, memory_store

RUN = "r260101-000001-a-222"
DAYS = 40


def ended(number: int, job: str = "a", state: str = "succeeded") -> IndexLine:
    """One of many runs, three a day."""
    began = time.strftime("r%y%m%d-%H%M%S", time.gmtime(1767225600 + 8 * 3600 * number))
    return IndexLine(f"{began}-{job}-222", job, state, float(number))


def fill(store: Store) -> list[IndexLine]:
    """Runs on so many days, and two that live, of which one is old."""
    lines = [ended(number) for number in range(3 * DAYS)]
    lines += [IndexLine("r251224-000000-b-222", "b", LIVE, 5.0), IndexLine("r260120-000001-b-222", "b", LIVE, 7.0)]
    for line in lines:
        store.put(f"{line.folder}/{line.key}", b"")
    return sorted(lines, key=lambda line: line.run_id)


@pytest.fixture
def crowded() -> tuple[Store, MemoryS3]:
    """An object store with many runs, whose requests are counted from here on."""
    store, memory = memory_store()
    fill(store)
    memory.requests.clear()
    return store, memory


def test_every_line_is_read_back(store: Store) -> None:
    """From a folder and from an object store alike, oldest first."""
    for each in (store, memory_store()[0]):
        assert fill(each) == read_index(each)


@pytest.mark.parametrize("state", [LIVE, "failed"])
def test_a_change_of_state_takes_few_requests_however_many_runs_there_are(
    crowded: tuple[Store, MemoryS3], state: str
) -> None:
    """The line is put, three listings show no run but this one, and what it was before goes."""
    store, memory = crowded
    before, bundle = len(read_index(store)), Bundle(store, RUN)
    bundle.index("a", LIVE, 3.0)
    memory.requests.clear()
    listed = []
    answer = memory._list_objects_v2
    memory._list_objects_v2 = lambda **asked: listed.append(told := answer(**asked)) or told  # type: ignore[method-assign]
    bundle.index("a", state, 4.0)
    assert memory.requests == {"put_object": 1, "list_objects_v2": 3, "delete_object": 1}
    assert all(RUN in each["Key"] for told in listed for each in told["Contents"])
    assert not any(told["CommonPrefixes"] for told in listed)
    assert [line.state for line in lines_of(store, RUN)] == [state]
    assert len(read_index(store)) == before + 1


def test_a_list_of_the_newest_asks_for_the_newest_days(crowded: tuple[Store, MemoryS3]) -> None:
    """Every run that lives is among them, however old."""
    store, memory = crowded
    found = select(store, Wanted(), 4)
    assert [line.run_id for line in found if line.state == LIVE] == ["r251224-000000-b-222", "r260120-000001-b-222"]
    assert [line.seconds for line in found if line.state != LIVE] == [3 * DAYS - number for number in (4, 3, 2, 1)]
    assert memory.requests == {"list_objects_v2": 3 + 2}


def test_only_days_that_can_fit_are_asked_for(crowded: tuple[Store, MemoryS3]) -> None:
    """By time, by a state that no line has, and by the beginning of an id."""
    store, memory = crowded
    since = 1767225600 + 86400.0 * (DAYS - 3)
    assert len(select(store, Wanted(since=since))) == 9
    assert memory.requests["list_objects_v2"] == 3 + 3
    memory.requests.clear()
    assert [line.state for line in select(store, Wanted(state="running"))] == [LIVE, LIVE]
    assert memory.requests["list_objects_v2"] == 3
    memory.requests.clear()
    assert find_run(store, "r260105-08") == "r260105-080000-a-222"
    assert memory.requests["list_objects_v2"] == 3 + 1


def test_a_run_is_found_by_its_whole_id_at_once(crowded: tuple[Store, MemoryS3]) -> None:
    """Without a look at others; by a part of it all of them are looked at."""
    store, memory = crowded
    assert find_run(store, "r260105-080000-a-222") == "r260105-080000-a-222"
    assert memory.requests == {"list_objects_v2": 3}
    assert find_run(store, "0105-08") == "r260105-080000-a-222"
    with pytest.raises(RunNotFound, match=f"fits {3 * DAYS + 2} runs"):
        find_run(store, "-222")
    with pytest.raises(RunNotFound, match="fits 3 runs"):
        find_run(store, "r260105")


def test_the_last_run_is_looked_for_from_the_newest_on(
    crowded: tuple[Store, MemoryS3], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that live and others by turns, as their ids say."""
    store, memory = crowded
    monkeypatch.setattr(finding, "submitted_by", lambda store, run_id: "me" if "-b-" in run_id else "you")
    monkeypatch.setattr(finding.trust, "user", lambda: "me")
    assert find_run(store, "@last") == "r260120-000001-b-222"
    assert memory.requests["list_objects_v2"] < DAYS
    assert find_run(store, "@last~1") == "r251224-000000-b-222"
    with pytest.raises(RunNotFound, match=f"2 of its {3 * DAYS + 2} runs"):
        find_run(store, "@last~2")


def test_who_submitted_is_asked_of_few(crowded: tuple[Store, MemoryS3], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of runs of the newest days, until so many are found as are wanted."""
    asked: collections.Counter[str] = collections.Counter()

    def submitted_by(store: Store, run_id: str) -> str:
        asked[run_id] += 1
        return "me"

    monkeypatch.setattr(finding, "submitted_by", submitted_by)
    assert len(select(crowded[0], Wanted(user="me"), 5)) == 7
    assert set(asked.values()) == {1}
    assert len(asked) == 2 + 6


# -- lines of before, and lines between two states -------------------------------------------------------------------


def test_lines_of_older_runners_are_read_and_replaced(store: Store) -> None:
    """They lie beside the folders of days; a run that goes on or ends under this runner leaves none behind."""
    doing = Doing("running", "train", "x/y")
    over, idle = IndexLine(RUN, "a", "failed", 3.0), IndexLine("r260102-000000-a-222", "a", LIVE, 0.0)
    busy = IndexLine("r260103-000000-a-222", "a", LIVE, 0.0, doing)
    new = ended(30)
    for each in (store, memory_store()[0]):
        for line in (over, idle, busy):
            each.put(f"index/{line.key}", b"")
        show(each, new)
        assert read_index(each) == [over, idle, busy, new]
        assert Index(each).live() == [idle, busy]
        assert select(each, Wanted(), 1) == [idle, busy, new]
        assert find_run(each, RUN) == RUN
        show(each, IndexLine(RUN, "a", LIVE, 4.0))
        show(each, IndexLine(idle.run_id, "a", "succeeded", 4.0))
        leave(each, busy.run_id)
        assert not [name for name in each.list("index") if "~" in name]
        assert [line.state for line in read_index(each)] == [LIVE, "succeeded", "succeeded"]


@pytest.mark.parametrize("state", [LIVE, "failed"])
@pytest.mark.parametrize("before", range(6))
def test_a_run_whose_line_moves_is_never_missing(before: int, state: str) -> None:
    """However many listings have been made by then; and if both lines are seen, only its log tells what it is."""
    store, memory = memory_store()
    show(store, IndexLine(RUN, "a", "failed" if state == LIVE else LIVE, 1.0))
    answer, left = memory._list_objects_v2, [before]

    def moved(**asked: Any) -> Any:
        if not left[0]:
            move(memory, IndexLine(RUN, "a", state, 2.0))
        left[0] -= 1
        return answer(**asked)

    memory._list_objects_v2 = moved  # type: ignore[method-assign]
    (line,) = select(store, Wanted(), 20)
    assert (line.run_id, line.state in (LIVE, "failed")) == (RUN, True)


def move(memory: MemoryS3, line: IndexLine) -> None:
    """What `show` does, at once."""
    for path in [path for path in memory.objects if "/index/" in path]:
        del memory.objects[path]
    memory.objects[f"lake/runs/{line.folder}/{line.key}"] = b""


def test_a_line_in_a_folder_that_is_not_its_own_is_none(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    """Nobody could remove it by the run's name: it is passed over, and said."""
    index = Path(store.root) / "index"
    for folder, line in (("live", ended(1)), ("260131", ended(1)), ("260101", IndexLine(RUN, "a", LIVE, 0.0))):
        (index / folder).mkdir(parents=True, exist_ok=True)
        (index / folder / line.key).touch()
    (index / "261299").touch()  # no folder
    assert read_index(store) == []
    assert capfd.readouterr().err.count("no line of the index") == 3


def test_a_line_of_the_index_is_the_stores_own() -> None:
    """No code is packed with it, wherever it lies; what only lies in a folder of that name is the user's."""
    for folder in ("index", "index/live", "index/260101"):
        assert is_own((*folder.split("/"), f"{RUN}~a~live~0"))
        assert not is_own((*folder.split("/"), "notes.py"))


def test_an_id_tells_when_its_run_was_begun() -> None:
    """In UTC, of this century or the end of the last; one of a day that there is not tells nothing."""
    assert begun_at("r260101-000001-a-222") == 1767225601.0
    assert begun_at("r991231-235959aa-a-22") == 946684799.0
    assert begun_at("r260230-000000aa-a-22") is None
    assert begun_at("lake") is None
