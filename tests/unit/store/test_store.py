from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from botocore.utils import parse_timestamp

from runner.errors import Fenced, StoreError, StoreRefused
from runner.store import Entry, Log, Store, s3
from runner.store.events import Unknown


def test_create_makes_an_object_once(store: Store) -> None:
    """The first create wins and its content stays."""
    assert store.create("a/b", b"first")
    assert not store.create("a/b", b"second")
    assert store.get("a/b") == b"first"


def test_of_many_writers_exactly_one_creates(store: Store) -> None:
    """Among racing threads exactly one create returns True, and the object holds that thread's bytes."""
    barrier, winners = threading.Barrier(16), []

    def write(number: int) -> None:
        barrier.wait()
        if store.create("contested", b"%d" % number * 1000):
            winners.append(number)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) == 1
    assert store.get("contested") == b"%d" % winners[0] * 1000


def test_put_replaces_whole_objects_and_leaves_nothing_beside(store: Store) -> None:
    """After put the object has the new content and the folder holds nothing else."""
    store.put("x", b"1")
    store.put("x", b"22")
    assert store.get("x") == b"22"
    assert os.listdir(store.path()) == ["x"]


def test_list_gives_names_directly_below(store: Store) -> None:
    """list shows files and folders of one level, sorted, and an absent folder as empty."""
    store.put("f/b", b"")
    store.put("f/a/deep", b"")
    assert store.list("f") == ["a", "b"]
    assert store.list("nowhere") == []


def test_put_file_publishes_a_finished_file(store: Store, tmp_path: Path) -> None:
    """A local file arrives whole under its key."""
    source = tmp_path / "source"
    source.write_bytes(b"data" * 1000)
    store.put_file("data/x.bin", source)
    assert store.get("data/x.bin") == source.read_bytes()


def test_a_file_that_is_taken_is_not_copied_on_one_disk(store: Store, tmp_path: Path, monkeypatch: Any) -> None:
    """It becomes the object itself, which stays when its old name goes; of another disk a copy is made."""
    source = tmp_path / "source"
    source.write_bytes(b"data" * 1000)
    store.put_file("data/x.bin", source, take=True)
    assert os.path.samefile(store.path("data/x.bin"), source)
    source.unlink()
    assert store.get("data/x.bin") == b"data" * 1000

    def elsewhere(*_: Any) -> None:
        raise OSError(errno.EXDEV, "another disk")

    source.write_bytes(b"more")
    monkeypatch.setattr(os, "link", elsewhere)
    store.put_file("data/x.bin", source, take=True)
    assert store.get("data/x.bin") == b"more"
    assert os.listdir(store.path("data")) == ["x.bin"]
    assert not os.path.samefile(store.path("data/x.bin"), source)


def test_an_object_store_without_a_bucket_is_refused() -> None:
    """A URL that ends too early."""
    for url in ("s3://", "s3:///runs", "s3a://", "gs://", "gcs:///runs", "az://", "abfss:///x"):
        with pytest.raises(StoreRefused, match="no bucket"):
            Store(url)


def test_a_container_is_named_without_its_account() -> None:
    """Other programs of Azure have URLs with both: said is where the account belongs."""
    with pytest.raises(StoreRefused, match=r"(?s)az://container/prefix.*AZURE_STORAGE_ACCOUNT_NAME"):
        Store("abfss://lake@account.dfs.core.windows.net/runs")


@pytest.mark.parametrize("url", ["memory://x", "http://host/x", "hdfs://x/y", "oss://bucket/x"])
def test_a_scheme_without_real_create_if_absent_is_refused(url: str) -> None:
    """A store that could race is refused with the schemes that cannot."""
    with pytest.raises(StoreError, match="s3://"):
        Store(url)


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC while writing becomes a StoreError that says so; no temporary file stays."""
    store.put("before", b"")

    def full(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(StoreError, match="no space left"):
        store.create("x", b"data")
    assert os.listdir(store.path()) == ["before"]


def test_the_log_numbers_entries_and_reads_them_back(store: Store) -> None:
    """Entries come back in order with their numbers, kinds and data."""
    log = Log(store, "log")
    log.append(Unknown("one", {"a": 1}))
    log.append(Unknown("two"))
    entries = Log(store, "log").read()
    assert [(e.number, e.kind, e.event.to_json()) for e in entries] == [(1, "one", {"a": 1}), (2, "two", {})]
    assert store.list("log") == ["00000001.json", "00000002.json"]


def test_a_writer_whose_number_is_taken_takes_the_next(store: Store) -> None:
    """Two writers that do not know of each other never overwrite an entry."""
    first, second = Log(store, "log"), Log(store, "log")
    first.read(), second.read()
    first.append(Unknown("first"))
    assert second.append(Unknown("second")).number == 2
    assert [e.kind for e in first.read()] == ["first", "second"]


def test_racing_writers_lose_no_entry(store: Store) -> None:
    """Eight threads with logs of their own append 10 entries each, and 80 are there without a gap."""

    def write(name: str) -> None:
        log = Log(store, "log")
        for number in range(10):
            log.append(Unknown(name, {"n": number}))

    threads = [threading.Thread(target=write, args=(f"w{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = Log(store, "log").read()
    assert [e.number for e in entries] == list(range(1, 81))
    for name in {e.kind for e in entries}:
        assert [e.event.to_json()["n"] for e in entries if e.kind == name] == list(range(10))


def test_a_fenced_writer_writes_nothing(store: Store) -> None:
    """The check sees the entries that came in between, and its refusal keeps the entry out."""
    log = Log(store, "log")
    Log(store, "log").append(Unknown("newer"))

    def check(entries: list[Entry]) -> None:
        if any(e.kind == "newer" for e in entries):
            raise Fenced("newer")

    with pytest.raises(Fenced):
        log.append(Unknown("mine"), check)
    assert [e.kind for e in log.read()] == ["newer"]


def test_an_entry_that_another_thread_reads_first_is_taken_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that one thread reads while another writes keeps its numbers: a hole would hide all that comes after."""
    log = Log(store, "log")
    create = store.create

    def seen_at_once(key: str, data: bytes) -> bool:
        made = create(key, data)
        log.read()  # the other thread, between the write and the writer's own note of it
        return made

    monkeypatch.setattr(store, "create", seen_at_once)
    assert [log.append(Unknown("one")).number, log.append(Unknown("two")).number] == [1, 2]
    assert [entry.number for entry in Log(store, "log").read()] == [1, 2]


@pytest.mark.parametrize(
    "told", ["2026-11-30T01:43:54.000Z", "Mon, 30 Nov 2026 01:43:54 GMT", "1796002338", 1796002338, 1796002338.5]
)
def test_moments_of_answers_are_those_that_botocore_reads(told: str | float) -> None:
    """In whichever form a server tells them."""
    assert s3._moment(told) == parse_timestamp(told)
