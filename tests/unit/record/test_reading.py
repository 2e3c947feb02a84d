from __future__ import annotations

import errno
import itertools
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from runner.errors import InputError, StoreAway
from runner.record import Bundle, reading, shipping
from runner.record.reading import Line, Tail, settled
from runner.record.shipping import Shipper
from runner.store import Store
from runner.views import units

RUN = "r261123-181119k4-tiny-x7"


@pytest.fixture
def bundle(store: Store) -> Bundle:
    return Bundle(store, RUN)


class Writer:
    """A process that prints into its spool file, at times of the test's own."""

    def __init__(self, spool: Path, name: str, stage: str = "train") -> None:
        self.path = spool / stage / "1" / "logs" / f"{name}.log"
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def print(self, data: bytes, at: float) -> None:
        with open(self.path, "ab") as file:
            file.write(data)
        os.utime(self.path, (at, at))


def write(bundle: Bundle, *segments: bytes, writer: str = "rank0", kind: str = "logs") -> None:
    folder, offset = bundle.stage_files.segments("train", 1, kind, writer), 0
    for data in segments:
        bundle.store.create(f"{folder}/{offset:015d}", data)
        offset += len(data)


def texts(tail: Tail, final: bool = True) -> list[str]:
    return [line.text for line in tail.records(final)]


def test_lines_of_several_writers_come_in_the_order_of_time(bundle: Bundle, tmp_path: Path) -> None:
    """Each with when it was finished; a shipper that looks between two flushes tells them apart."""
    spool = tmp_path / "spool"
    first, second, shipper = Writer(spool, "rank0"), Writer(spool, "rank1"), Shipper(spool, bundle)
    first.print(b"a\nb", 100.0)
    second.print(b"c\n", 101.5)
    shipper.ship()
    for at, (writer, data) in enumerate([(first, b"egun\n"), (second, b"d\n"), (first, b"e\n"), (second, b"f\n")], 102):
        writer.print(data, float(at))
        shipper.look()
    shipper.ship()
    assert list(Tail(bundle, "logs", timed=True).records()) == [
        Line(100.0, "train/rank0", "a"),
        Line(101.5, "train/rank1", "c"),
        Line(102.0, "train/rank0", "begun"),
        Line(103.0, "train/rank1", "d"),
        Line(104.0, "train/rank0", "e"),
        Line(105.0, "train/rank1", "f"),
    ]


def test_times_do_not_depend_on_how_a_log_was_cut(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush of several segments, and a shipper that takes over, keep the time of each line."""
    monkeypatch.setattr(shipping, "SEGMENT_BYTES", 3)
    writer = Writer(tmp_path / "spool", "rank0")
    for at, data in enumerate([b"one\ntwo\n", b"three\n", b"four"], 1):
        writer.print(data, float(at))
        Shipper(tmp_path / "spool", bundle).ship()
    found = [(line.at, line.text) for line in Tail(bundle, "logs", timed=True).records(final=True)]
    assert found == [(1.0, "one"), (1.0, "two"), (2.0, "three"), (3.0, "four")]


def test_a_shipper_outlives_what_it_cannot_read(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that goes between two looks, or a disk that fails for a moment, ends no shipping: the rest arrives."""
    monkeypatch.setattr(shipping, "LOOK_S", 0.005)
    monkeypatch.setattr(shipping, "FIRST_FLUSH_S", 0.02)
    spool, looks, recovered = tmp_path / "spool", itertools.count(), threading.Event()
    writer, gone = Writer(spool, "rank0"), Writer(spool, "rank1")
    writer.print(b"one\n", 100.0)
    gone.print(b"gone\n", 100.0)
    stat = Path.stat

    def fails(self: Path, **options: Any) -> Any:
        if self == writer.path:
            number = next(looks)
            if number < 4:
                raise OSError(errno.EIO, "Input/output error")
            recovered.set()
        return stat(self, **options)

    shipper = Shipper(spool, bundle)
    shipper.ship()
    gone.path.unlink()
    monkeypatch.setattr(Path, "stat", fails)
    shipper.start()
    assert recovered.wait(30)
    writer.print(b"two\n", 101.0)
    shipper.close()
    assert shipper.error is None
    assert texts(Tail(bundle, "logs", writer="rank0")) == ["one", "two"]
    assert texts(Tail(bundle, "logs", writer="rank1")) == ["gone"]


def test_logs_that_come_later_are_looked_at(bundle: Bundle, tmp_path: Path) -> None:
    """Of a rank or a stage that begins between two flushes, too; a look lists nothing where no folder has changed."""
    spool = tmp_path / "spool"
    shipper = Shipper(spool, bundle)
    for at, (stage, name) in enumerate([("prep", "prep-0"), ("train", "rank0"), ("train", "rank1")], 100):
        writer = Writer(spool, name, stage)
        writer.print(b"one\n", float(at))
        shipper.look()
        writer.print(b"two\n", at + 0.5)
        shipper.look()
    shipper.ship()
    found = [line.at for line in Tail(bundle, "logs", timed=True).records()]
    assert found == [100.0, 100.5, 101.0, 101.5, 102.0, 102.5]


def test_the_last_line_is_shown_without_its_end(bundle: Bundle) -> None:
    """When there is no more to come, and not before."""
    tail = Tail(bundle, "logs")
    write(bundle, b"one\nla", b"st")
    assert texts(tail, final=False) == ["one"]
    assert tail.unfinished() == "last"
    assert texts(tail) == ["last"]
    assert texts(tail) == []


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (b"\r 10%\r 50%\r100%\nafter\n", ["100%", "after"]),
        (b"10%\r50%\r", ["50%"]),
        (b"windows\r\n", ["windows"]),
        (b"\r\r\n", [""]),
        (b"\xff\xfe\x00raw\n", ["��\x00raw"]),
        ("\u2028 and \x85 end no line\n".encode(), ["\u2028 and \x85 end no line"]),
    ],
)
@pytest.mark.parametrize("cut", [1, 3, 1000])
def test_of_a_progress_bar_the_last_state_is_shown(bundle: Bundle, printed: bytes, shown: list[str], cut: int) -> None:
    """Wherever the segments are cut; bytes that are no text are shown as such."""
    write(bundle, *(printed[k : k + cut] for k in range(0, len(printed), cut)))
    assert texts(Tail(bundle, "logs")) == shown


def test_a_progress_bar_does_not_pile_up(bundle: Bundle) -> None:
    """Hours of it are read in the memory of one state."""
    tail = Tail(bundle, "logs")
    write(bundle, *[b"\r%d%%" % k for k in range(100)], writer="rank0")
    write(bundle, *[b"%d%%\r" % k for k in range(100)], writer="rank1")
    assert list(tail.records()) == []
    assert tail.unfinished() == "99%"
    assert all(sum(map(len, reader._begun)) < 10 for reader in tail._all())


@pytest.mark.parametrize("last", [None, 2])
def test_a_line_without_an_end_does_not_pile_up(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, last: int | None
) -> None:
    """Segments that may be one file a thousand times: what is too long for a line is shown as several, none is lost."""
    monkeypatch.setattr(reading, "LINE_BYTES", 100)
    write(bundle, *([b"x" * 60] * 7), b"x\nend\n")
    tail = Tail(bundle, "logs")
    found = texts(tail) if last is None else [line.text for line in tail.last(last, final=True)]
    assert found == (["x" * 120] * 3 + ["x" * 61, "end"])[-(last or 9) :]


def test_the_last_lines_alone(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as asked for, of all writers together; no more segments are read than needed, and following goes on."""
    for writer, name in enumerate(("rank0", "rank1")):
        lines = [b"%d of %d\n" % (k, writer) for k in range(10)]
        write(bundle, *lines, writer=name)
        write(
            bundle,
            *[json.dumps([[0, 10.0 * k + writer]]).encode().ljust(len(lines[k])) for k in range(10)],
            writer=name,
            kind="times",
        )
    _match_names(bundle)
    read: list[str] = []
    get = Store.get
    monkeypatch.setattr(Store, "get", lambda self, key, most=None: (read.append(key), get(self, key))[1])
    tail = Tail(bundle, "logs", timed=True)
    assert [line.text for line in tail.last(3)] == ["8 of 1", "9 of 0", "9 of 1"]
    assert not any(key.endswith("/logs/rank0/000000000000000") for key in read)
    assert list(tail.records()) == []
    assert [line.text for line in Tail(bundle, "logs", timed=True).last(100)][:2] == ["0 of 0", "0 of 1"]
    assert list(Tail(bundle, "logs").last(0)) == []


def _match_names(bundle: Bundle) -> None:
    """The times of a segment have its name."""
    for name in ("rank0", "rank1"):
        reading, times = (bundle.stage_files.segments("train", 1, kind, name) for kind in ("logs", "times"))
        old = [bundle.store.get(f"{times}/{each}") for each in bundle.store.list(times)]
        bundle.store.delete_tree(times)
        for segment, content in zip(bundle.store.list(reading), old, strict=True):
            bundle.store.create(f"{times}/{segment}", content)


def test_a_store_that_fails_in_between_costs_no_line(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever follows asks again, and gets each line once."""
    write(bundle, b"a\n", b"b\n")
    write(bundle, b"c\n", b"d\n", writer="rank1")
    tail, get, asked, seen = Tail(bundle, "logs", timed=True), Store.get, 0, []

    def flaky(self: Store, key: str, most: int | None = None) -> bytes:
        nonlocal asked
        asked += 1
        if asked % 3 == 0:
            raise StoreAway("no answer")
        return get(self, key)

    monkeypatch.setattr(Store, "get", flaky)
    for _ in range(40):
        try:
            for line in tail.records():
                seen.append(line.text)
        except StoreAway:
            continue
    assert sorted(seen) == ["a", "b", "c", "d"]


def test_what_was_drawn_over_is_not_shown() -> None:
    """Of a whole line what follows its last carriage return, but for one at its end."""
    assert settled(b"a\rb\r") == b"b"


def test_since_takes_spans_and_times() -> None:
    """Spans are counted back from now; a time without a zone is local."""
    assert [units.since(text, 1e6) for text in ("90s", "10m", "1.5h", "2d")] == [999_910, 999_400, 994_600, 827_200]
    assert units.since("2026-11-23T19:35:21Z", 0.0) == 1795462521.0
    assert units.since("2026-11-23T19:35:21+01:00", 0.0) == 1795458921.0
    for text in ("", "10", "yesterday", "-5m", "99999-01-01"):
        with pytest.raises(InputError, match="--since"):
            units.since(text, 0.0)


def test_times_for_machines_have_one_shape() -> None:
    """UTC to the millisecond, also where it is a whole second."""
    assert units.iso(1795462521.0426) == "2026-11-23T19:35:21.043Z"
    assert units.iso(1795462520.9999) == "2026-11-23T19:35:21.000Z"
    assert units.iso(None) is None
