"""The log in an object store: what a fresh reader asks for, and that no snapshot changes what it sees."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable

import pytest

from runner.errors import StoreBroken, StoreError
from runner.record import Bundle
from runner.record.entries import AttemptBegan, CancelAsked, Submitted
from runner.store import Entry, Log, Store, snapshots
from runner.store.events import Unknown
from runner.store.snapshots import EVERY, snapshot_key
from tests.unit.store.s3_kit import MemoryS3, memory_store

SEED = 20261130
WRITTEN = 3 * EVERY + 5


def write(store: Store, entries: int) -> list[Entry]:
    """A log of so many entries, none like another."""
    log = Log(store, "log")
    for number in range(entries):
        log.append(Unknown("note", {"n": number, "words": 'ä"\\\n' * (number % 7)}))
    return log.read()


def one_by_one(store: Store) -> list[Entry]:
    """The log without a listing, as far as it goes."""
    log = Log(store, "log")
    log.head()
    return log.read()


def test_a_long_log_takes_a_handful_of_requests() -> None:
    """Of 2,000 entries: the pages of one listing, five snapshots, the 16 entries behind them, and one for the next; all
    but the last are asked for at once.
    """
    store, memory = memory_store()
    written = write(store, 2000)
    memory.requests.clear()
    assert Log(store, "log").read() == written
    assert memory.requests == {"list_objects_v2": 3, "get_object": 5 + 16 + 1}
    assert memory.at_once > 16


@pytest.mark.parametrize("entries", [0, 1, EVERY - 1, EVERY, EVERY + 1, 8 * EVERY, 11 * EVERY + 7])
def test_requests_do_not_grow_with_the_log(entries: int) -> None:
    """So many as the number of entries has ones and a rest, in units of a snapshot; of none only the listing."""
    store, memory = memory_store()
    written = write(store, entries)
    memory.requests.clear()
    assert Log(store, "log").read() == written
    chunks, rest = divmod(entries, EVERY)
    assert memory.requests["get_object"] == chunks.bit_count() + rest + bool(entries)


def test_a_writer_goes_on_reading_one_entry_at_a_time() -> None:
    """Each further entry costs its own writer two requests, and one more for each snapshot."""
    store, memory = memory_store()
    log = Log(store, "log")
    log.append(Unknown("note"))
    memory.requests.clear()
    for _ in range(EVERY - 1):
        log.append(Unknown("note"))
    assert memory.requests == {"get_object": EVERY - 1, "put_object": EVERY}


def test_a_folder_has_no_snapshots(store: Store) -> None:
    """On a disk an entry costs no round trip."""
    write(store, EVERY)
    assert len(store.list("log")) == EVERY


def test_an_older_reader_passes_over_snapshots() -> None:
    """They have no name of an entry, and a log's folder with one in it is read one by one to the same end."""
    store, _ = memory_store()
    written = write(store, WRITTEN)
    assert one_by_one(store) == written
    assert [name for name in store.list("log") if name.startswith("snapshot-")] == [
        f"snapshot-{number:08d}.json" for number in (EVERY, 2 * EVERY, 3 * EVERY)
    ]


# -- whatever lies in the place of a snapshot ------------------------------------------------------------------------


def lies(data: bytes) -> bytes:
    """A snapshot of which one entry says something else, in as many bytes."""
    told = json.loads(data)
    told["entries"][1] = told["entries"][1].replace('"note"', '"lies"')
    return json.dumps(told).encode()


def reordered(data: bytes) -> bytes:
    """The same entries in another order."""
    told = json.loads(data)
    return json.dumps({"entries": told["entries"][::-1]}).encode()


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"", "torn": lambda data: data[: len(data) // 2], "zeros": lambda data: bytes(len(data)),
    "no JSON": lambda data: b"\xff" + data, "null": lambda data: b"null", "no entries": lambda data: b"{}",
    "few": lambda data: b'{"entries": []}', "more": lambda data: data.replace(b'["', b'["{}", "', 1),
    "numbers": lambda data: b'{"entries": [1, 2]}', "deep": lambda data: b"[" * 100_000, "lies": lies,
    "reordered": reordered, "surrogates": lambda data: b'{"entries": ["\\ud800"]}',
    "many signs": lambda data: b'{"entries": [' + b"[]," * 2_000_001 + b"0]}",
}  # fmt: skip


@pytest.mark.parametrize("how", SPOILT)
@pytest.mark.parametrize("number", [2 * EVERY, 3 * EVERY])
def test_a_spoilt_snapshot_changes_nothing(how: str, number: int) -> None:
    """A reader sees the entries, whatever the snapshot holds instead of them."""
    store, memory = memory_store()
    written = write(store, WRITTEN)
    key = snapshot_key("log", number)
    store.put(key, SPOILT[how](store.get(key)))
    memory.requests.clear()
    assert Log(store, "log").read() == written
    assert memory.requests["get_object"] <= 2 + 5 + WRITTEN + 1  # what was asked for first, and all of it singly


def test_a_snapshot_that_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is it written: bounds are those of an entry."""
    store, memory = memory_store()
    monkeypatch.setattr(snapshots, "SNAPSHOT_BYTES", 10)
    written = write(store, EVERY)
    memory.requests.clear()
    assert Log(store, "log").read() == written
    assert memory.requests["get_object"] == EVERY + 1


def test_any_snapshots_missing_or_spoilt_change_nothing() -> None:
    """At random: any of them is gone, or holds another's content or noise; the entries read are the same."""
    draw = random.Random(SEED)
    store, memory = memory_store()
    written = write(store, 9 * EVERY + 3)
    whole = dict(memory.objects)
    places = [path for path in whole if "/snapshot-" in path]
    for _ in range(60):
        memory.objects = dict(whole)
        for path in draw.sample(places, draw.randint(1, len(places))):
            if draw.random() < 0.4:
                del memory.objects[path]
            else:
                memory.objects[path] = draw.choice([whole[draw.choice(places)], draw.randbytes(50)])
        assert Log(store, "log").read() == written
        cut = draw.randint(1, len(written))  # and an entry is gone
        del memory.objects[store.path(f"log/{cut:08d}.json")]
        assert Log(store, "log").read() == one_by_one(store) == written[: cut - 1]


def test_an_entry_that_is_spoilt_is_refused_though_a_snapshot_has_it() -> None:
    """The entry's own object is the truth: whoever reads one by one is refused, and so is who reads a snapshot."""
    store, _ = memory_store()
    write(store, EVERY)
    store.put("log/00000003.json", b"{}")
    for read in (one_by_one, lambda store: Log(store, "log").read()):
        with pytest.raises(StoreBroken, match="'kind' is missing"):
            read(store)


def test_entries_behind_a_gap_are_named_and_not_read(capfd: pytest.CaptureFixture[str]) -> None:
    """A snapshot that has the missing one does not bring it back."""
    store, _ = memory_store()
    written = write(store, EVERY + 4)
    store.delete(f"log/{EVERY - 1:08d}.json")
    assert Log(store, "log").read() == written[: EVERY - 2]
    assert f"{EVERY:08d}.json: no entry {EVERY - 1} before it" in capfd.readouterr().err


def test_what_comes_while_a_log_is_read_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that is written behind the listing is seen."""
    store, memory = memory_store()
    write(store, EVERY)
    answer, writer = memory._list_objects_v2, Log(store, "log")
    writer.read()

    def late(**asked: str) -> dict[str, object]:
        told = answer(**asked)
        memory.objects[store.path(f"log/{EVERY + 1:08d}.json")] = b'{"kind": "late", "at": 1.0, "data": {}}'
        return told

    monkeypatch.setattr(memory, "_list_objects_v2", late)
    assert Log(store, "log").read()[-1].kind == "late"


def test_racing_writers_leave_snapshots_of_what_is_there() -> None:
    """Writers that do not know of each other: no entry is lost, and each snapshot is used."""
    store, memory = memory_store()

    def append(name: str) -> None:
        log = Log(store, "log")
        for number in range(20):
            log.append(Unknown(name, {"n": number}))

    threads = [threading.Thread(target=append, args=(f"w{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    memory.requests.clear()
    entries = Log(store, "log").read()
    assert memory.requests["get_object"] == (160 // EVERY).bit_count() + 1
    assert entries == one_by_one(store)
    assert sorted((e.kind, e.event.to_json()["n"]) for e in entries) == [
        (f"w{w}", n) for w in range(8) for n in range(20)
    ]


def test_a_snapshot_that_cannot_be_written_stops_no_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry is there, which is what was asked for."""
    store, memory = memory_store()
    put = memory._put_object

    def refuse(Key: str, **asked: object) -> None:
        if "snapshot-" in Key:
            raise PermissionError(13, "not for you")
        put(Key=Key, **asked)

    monkeypatch.setattr(memory, "_put_object", refuse)
    assert [entry.number for entry in write(store, EVERY + 1)] == list(range(1, EVERY + 2))


def test_an_entry_that_no_snapshot_can_hold_stops_no_writer() -> None:
    """JSON may be UTF-16, which is no text of a snapshot: none is made, and all goes on."""
    store, memory = memory_store()
    store.put("log/00000001.json", '{"kind": "x", "at": 1.0, "data": {}}'.encode("utf-16"))
    written = write(store, EVERY)
    assert len(written) == EVERY + 1
    assert Log(store, "log").read() == written
    assert not any("snapshot-" in path for path in memory.objects)


def test_a_log_that_fills_memory_is_left_off_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy within a bucket costs its writer nothing: what is asked for at once is bounded by bytes, and reading stops
    where the log is too large.
    """
    store, memory = memory_store()
    monkeypatch.setattr("runner.store.log.LOG_BYTES", 4 << 20)
    monkeypatch.setattr(snapshots, "BYTES_AT_ONCE", 2 << 20)
    entry = json.dumps({"kind": "x", "at": 1.0, "data": {"x": "y" * (1 << 20)}}).encode()
    for number in range(1, 50):
        store.put(f"log/{number:08d}.json", entry)
    memory.requests.clear()
    with pytest.raises(StoreBroken, match="of which a log has less"):
        Log(store, "log").read()
    assert memory.requests["get_object"] <= 6


def test_a_run_in_an_object_store_is_read_in_few_requests() -> None:
    """Through its bundle, with the shapes of a run's entries; a new client writes on."""
    store, memory = memory_store()
    bundle = Bundle(store, "r260101-000000-a-222")
    bundle.log.append(Submitted(job="a", legs=(("train",),), by="ann"))
    for attempt in range(1, 4 * EVERY):
        bundle.log.append(AttemptBegan(leg=0, attempt=attempt))
    memory.requests.clear()
    fresh = Bundle(store, bundle.run_id)
    assert fresh.log.read() == bundle.log.read()
    assert sum(memory.requests.values()) <= 4
    assert fresh.log.append(CancelAsked(by="x")).number == 4 * EVERY + 1


def test_a_store_that_refuses_to_read_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many requests one that is refused is told as it would be alone."""
    store, _ = memory_store()
    write(store, EVERY + 3)

    def refuse(self: MemoryS3, **_: object) -> None:
        raise PermissionError(13, "not for you")

    monkeypatch.setattr(MemoryS3, "_get_object", refuse)
    with pytest.raises(StoreError, match="no permission"):
        Log(store, "log").read()
