"""Units that cannot be read: an error, or set aside with the rows of others in their place."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from runner import Mix, Pack
from runner.data import manifest
from runner.data.manifest import Manifest
from runner.data.stream import Stream
from runner.data.stream.quarantine import merged
from runner.errors import DataDamaged, DataError, SpecError
from tests.unit.data.kit import register_remote
from tests.unit.data.units_kit import GROUPS, ROWS, UNITS, damage, write


def spread(source: Path | Manifest) -> Manifest:
    """The data in several lanes of small blocks, as large data is."""
    found = manifest.build(source) if isinstance(source, Path) else source
    return replace(found, lanes=4, block_bytes=800)


def stream(source: Any, **more: Any) -> Stream:
    """All damaged units that the tests make are within the share."""
    return Stream(source, **{"global_batch_size": 16, "as_": "numpy", "max_quarantine": 0.3, "threads": 2, **more})


def ids(batches: Iterable[Any]) -> list[list[int]]:
    """Of each batch."""
    return [batch["id"].tolist() for batch in batches]


def together(source: Any, world_size: int, **more: Any) -> list[list[int]]:
    """The rows of each global batch, read by so many ranks."""
    ranks = [ids(stream(source, rank=rank, world_size=world_size, **more)) for rank in range(world_size)]
    return [list(itertools.chain(*parts)) for parts in zip(*ranks, strict=True)]


def test_a_damaged_unit_is_an_error(tmp_path: Path) -> None:
    """By default it names the file, the unit and the column, and is of a class of its own."""
    with pytest.raises(DataDamaged, match=r"(?s)1\.parquet \(unit 2\).*'id'.*CRC"):
        list(stream(write(tmp_path / "d", [5]), max_quarantine=0.0))


@pytest.mark.parametrize("shuffle", [True, False])
def test_rows_of_others_stand_in(tmp_path: Path, shuffle: bool) -> None:
    """Every sound row comes once, and for the rows of a damaged unit come those of one other unit, in their order."""
    folder = write(tmp_path / "d", [5, 20])
    with stream(spread(folder), shuffle=shuffle) as one:
        batches = list(one)
        found = np.concatenate([batch["id"] for batch in batches])
        aside = one.quarantined
    assert [(set_aside.url, set_aside.unit, set_aside.rows) for set_aside in aside] == [
        (str(folder / "1.parquet"), 2, ROWS),
        (str(folder / "6.parquet"), 2, ROWS),
    ]
    assert all("CRC" in set_aside.error for set_aside in aside)
    counts = np.bincount(found, minlength=UNITS * ROWS).reshape(UNITS, ROWS)
    twice = [numbered(set_aside.instead) for set_aside in aside]
    expected = np.ones((UNITS, ROWS), int)
    for unit in (5, 20):
        expected[unit] = 0
    for unit in twice:
        expected[unit] += 1
    assert (counts == expected).all()
    if not shuffle:
        assert found[5 * ROWS : 6 * ROWS].tolist() == list(range(twice[0] * ROWS, (twice[0] + 1) * ROWS))


def numbered(place: tuple[str, int]) -> int:
    """The number of a unit by its file and its number in it."""
    return int(Path(place[0]).stem) * GROUPS + place[1]


@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_the_rows_are_the_same_for_any_number_of_ranks(tmp_path: Path, world_size: int) -> None:
    """Global batches are the same, though each rank finds by itself what is damaged."""
    data = spread(write(tmp_path / "d", [2, 3, 17]))
    alone = together(data, 1)
    assert [sorted(step) for step in together(data, world_size)] == [sorted(step) for step in alone]
    assert together(data, 1, threads=1, prefetch_bytes=1) == alone


def test_a_damaged_stand_in_is_set_aside_too(tmp_path: Path) -> None:
    """The next one stands in then."""
    folder = write(tmp_path / "d", [5])
    with stream(folder) as one:
        list(one)
        first = numbered(one.quarantined[0].instead)
    damage(folder, first)
    with stream(folder) as one:
        list(one)
        assert {numbered((aside.url, aside.unit)) for aside in one.quarantined} == {5, first}
        assert {numbered(aside.instead) for aside in one.quarantined}.isdisjoint({5, first})


def test_too_many_are_an_error(tmp_path: Path) -> None:
    """It has the numbers, and names each file."""
    folder = write(tmp_path / "d", [2, 3, 17])
    with pytest.raises(DataError, match=r"(?s)rows \(12\.50%\).*0\.parquet \(unit 2\).*1\.parquet.*5\.parquet.*0\.1 "):
        list(stream(folder, max_quarantine=0.1))
    with pytest.raises(DataError, match="no unit is left"):
        list(stream(write(tmp_path / "all", range(UNITS)), max_quarantine=1.0))
    with pytest.raises(SpecError, match="max_quarantine"):
        stream(folder, max_quarantine=1.5)


def test_what_is_set_aside_is_in_the_state(tmp_path: Path) -> None:
    """A resume reads the same rows again, though the file has been mended meanwhile; other arguments are refused."""
    folder, whole = write(tmp_path / "d", [5, 20]), write(tmp_path / "whole")
    data = spread(folder)
    with stream(data, epochs=2) as one:
        for _ in range(40):
            next(one)
        state, rest = one.state_dict(), ids(one)
    assert set(state["quarantine"][""]) == {"5", "20"}
    mended = replace(data, base=str(whole))
    with stream(mended, epochs=2) as other:
        other.load_state_dict(state)
        assert ids(other) == rest
        assert other.state_dict()["quarantine"] == state["quarantine"]
    with pytest.raises(DataError, match="max_quarantine"):
        stream(mended, max_quarantine=0.0).load_state_dict(state)
    with pytest.raises(DataError, match="0.05"):
        stream(mended, max_quarantine=0.05).load_state_dict(state)
    for wrong in ({"": {"24": "x"}}, {"web": {"1": "x"}}, {"": [5]}, 7):
        with pytest.raises(DataError, match="a state whose quarantine is"):
            stream(data).load_state_dict({**state, "quarantine": wrong})


def test_a_state_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    """Too many units in one source of a mixture: neither that one nor another has set anything aside since."""
    sources = {name: str(write(tmp_path / name)) for name in ("a", "b")}
    with stream(Mix({"a": 0.5, "b": 0.5}, sources)) as one:
        state = one.state_dict()
        for source in ("a", "b"):
            kept = {"a": {"1": "x"}, "b": {"1": "x"}, source: {str(unit): "x" for unit in range(UNITS // 2)}}
            with pytest.raises(DataError, match=r"50\.00%.*0\.parquet \(unit 0\): x"):
                one.load_state_dict({**state, "quarantine": kept})
            assert one.quarantined == []
        assert one.state_dict() == state


def test_a_state_from_before_is_of_what_was_known_then(tmp_path: Path) -> None:
    """A stream that goes back to a state reads what was not set aside then, though it has held other rows since."""
    folder = write(tmp_path / "d")
    with stream(folder, epochs=2) as one:
        state = one.state_dict()
        before = ids([next(one)])
        other = {**state, "quarantine": {"": {"3": "damaged"}}}
        one.load_state_dict(other)
        aside = itertools.chain(*ids(one))
        assert not set(range(3 * ROWS, 4 * ROWS)) & set(aside)
        one.load_state_dict(state)
        assert ids([next(one)]) == before
        assert one.quarantined == []


def test_states_of_ranks_are_put_together(tmp_path: Path) -> None:
    """The state of the first has what each of them has met."""
    data = spread(write(tmp_path / "d", [2, 17]))
    ranks = [stream(data, rank=rank, world_size=4) for rank in range(4)]
    for one in ranks:
        list(one)
    states = [one.state_dict() for one in ranks]
    assert set(merged(*states)["quarantine"][""]) == {"2", "17"}
    assert merged(*[{"epoch": 1}] * 2) == {"epoch": 1}


def test_a_pickled_stream_knows_what_is_set_aside(tmp_path: Path) -> None:
    """It goes on with the same rows."""
    one = stream(spread(write(tmp_path / "d", [5])))
    next(one)
    copied = pickle.loads(pickle.dumps(one))
    assert ids(copied) == ids(one)


def test_each_unit_is_told_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With file, unit and error, however many epochs there are."""
    said: list[str] = []
    log = "runner.data.stream.quarantine._log.warning"
    monkeypatch.setattr(log, lambda words, *values: said.append(words % values))
    list(stream(spread(write(tmp_path / "d", [5])), epochs=3))
    assert len(said) == 1
    assert "1.parquet (unit 2): " in said[0]
    assert "CRC" in said[0]


@pytest.mark.parametrize("as_", ["numpy", "arrow"])
def test_filters_and_packing_go_on(tmp_path: Path, as_: str) -> None:
    """Behind a filter that is counted without the damaged column, and packed, every batch has its shape."""
    folder = write(tmp_path / "d", [5])
    with stream(folder, as_=as_, pack=Pack("tokens", length=16)) as one:  # damaged is another column
        assert {len(batch["tokens"]) for batch in one} == {16}
        assert one.quarantined == []
    few = (lambda batch: pc.less(pc.list_value_length(batch["tokens"]), 3), ["tokens"])
    with stream(folder, as_=as_, filter=few) as one:
        found = list(one)
        assert len(found) == len(one) == UNITS * ROWS * 2 // 5 // 16
        assert len(one.quarantined) == 1
        assert all(int(i) % 5 < 2 for batch in found for i in batch["id"].tolist())
    with pytest.raises(DataDamaged, match="unit 2"):  # what is left is not known
        stream(folder, filter=pc.field("id") > 110)


def test_each_source_of_a_mixture_has_its_own(tmp_path: Path) -> None:
    """Shares are exact all the same, and the state says of which source a unit is."""
    sources = {"a": str(write(tmp_path / "a", [5])), "b": str(write(tmp_path / "b", [7, 8], first=10_000))}
    mix = Mix({"a": 0.5, "b": 0.5}, sources)
    with stream(mix) as one:
        batches = list(one)
        assert {(aside.source, aside.unit) for aside in one.quarantined} == {("a", 2), ("b", 1), ("b", 2)}
        assert {name: set(known) for name, known in one.state_dict()["quarantine"].items()} == {
            "a": {"5"},
            "b": {"7", "8"},
        }
    for batch in batches:
        assert ((batch["id"] >= 10_000) == (batch.sources == 1)).all()
        assert (batch.sources == 1).sum() == 8


def test_large_units_go_through_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows are the same where a unit is too large to be held until all of it was looked at."""
    data = spread(write(tmp_path / "d", [2, 3, 17]))
    held = together(data, 2)
    monkeypatch.setattr("runner.data.stream.blocks.PIECE_BYTES", 100)
    assert together(data, 2) == held


@pytest.mark.parametrize("ending", ["parquet", "arrow", "jsonl", "files"])
def test_content_is_compared_with_the_listing(tmp_path: Path, ending: str) -> None:
    """What nothing in a file tells is seen where it is verified: an error, or every unit of the file is set aside."""
    texts = [f"line {i}" for i in range(40)]
    for number in range(4):
        path = tmp_path / f"{number}.{ending}"
        if ending in ("parquet", "arrow"):
            write = pq.write_table if ending == "parquet" else pa.feather.write_feather
            write(pa.table({"text": texts}), path, compression="none" if ending == "parquet" else "uncompressed")
        else:
            path.write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    found = manifest.build(f"{tmp_path}/*.{ending}", format=ending if ending == "files" else None, count=True)
    changed = tmp_path / f"2.{ending}"
    changed.write_bytes(changed.read_bytes().replace(b"line 7", b"Line 7"))
    reading: dict[str, Any] = {"as_": "numpy", "global_batch_size": 2}
    assert len(list(Stream(found, **reading))) > 1
    with pytest.raises(DataDamaged, match=rf"2\.{ending}: its content is not what was listed: .*MD5"):
        list(Stream(found, **reading, verify=True))
    with Stream(found, **reading, verify=True, max_quarantine=0.25) as one:
        batches = list(one)
        assert [Path(aside.url).name for aside in one.quarantined] == [changed.name]
    assert not any("Line 7" in str(batch) for batch in batches)


def test_a_file_that_is_not_what_was_listed_is_read_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many of its units are set aside for it."""
    folder = write(tmp_path / "d")
    data = manifest.build(folder)
    damage(folder, 4)
    verified, real = [], Manifest.verify
    monkeypatch.setattr(Manifest, "verify", lambda self, shard: (verified.append(shard), real(self, shard)))
    with stream(data, verify=True) as one:
        list(one)
        assert [aside.unit for aside in one.quarantined] == [0, 1, 2]
    assert sorted(verified) == sorted([*range(8), 1])


def test_a_unit_is_fetched_once_more_past_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came damaged from the store, and was kept so, is whole the second time; the cache then has it whole."""
    store = register_remote(monkeypatch)
    write(tmp_path / "d")
    for path in (tmp_path / "d").iterdir():
        store().pipe_file(f"/d/{path.name}", path.read_bytes())
    whole, reads = store.cat_file, 0

    def cat_file(self: Any, path: str, start: int | None = None, end: int | None = None, **more: Any) -> bytes:
        nonlocal reads
        data = bytearray(whole(self, path, start, end, **more))
        if path.endswith("1.parquet") and start == 4:
            reads += 1
            if reads == 1:
                data[100] ^= 1
        return bytes(data)

    data = manifest.build("remote://d")
    monkeypatch.setattr(store, "cat_file", cat_file)
    expected = ids(stream(tmp_path / "d", max_quarantine=0.0))
    with stream(data, cache=tmp_path / "cache") as one:
        assert ids(one) == expected
        assert one.quarantined == []
    first = reads
    assert first > 1
    assert ids(stream(data, cache=tmp_path / "cache", max_quarantine=0.0)) == expected
    assert reads == first


@pytest.mark.parametrize("many", [64, 1])
def test_what_is_set_aside_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: int) -> None:
    """In later epochs nothing is asked for a unit that cannot be read, and what was asked for is let go of; in blocks
    of many units too."""
    monkeypatch.setattr("runner.data.stream.reader._MANY", many)
    store = register_remote(monkeypatch)
    for path in write(tmp_path / "d", [5]).iterdir():
        store().pipe_file(f"/d/{path.name}", path.read_bytes())
    data, start = spread(manifest.build("remote://d")), manifest.build("remote://d").shards[1].units[2].start
    with stream(data, epochs=4) as one:
        for _ in range(len(one) // 4):
            next(one)
        requests = one._ahead.reader._decoders.requests
        requests.ask(5, 10**12)
        assert not requests.has_room
        before = [read for read in store.reads if read[0] == "/d/1.parquet" and read[1] == start]
        for _ in one:
            pass
        after = [read for read in store.reads if read[0] == "/d/1.parquet" and read[1] == start]
    assert before
    assert len(after) - len(before) <= 1
    requests = one._ahead.reader._decoders.requests
    assert requests.has_room


@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_units_that_are_cut_over_lanes_are_set_aside_whole(tmp_path: Path, world_size: int) -> None:
    """Each part of a damaged unit is another unit's, whichever rank comes to it."""
    path = tmp_path / "0.parquet"
    pq.write_table(pa.table({"id": range(60)}), path, row_group_size=20, write_page_checksum=True, compression="none")
    damage(tmp_path, 1)
    data = replace(manifest.build(path), lanes=8, block_bytes=24)
    found = together(data, world_size, global_batch_size=10, max_quarantine=0.5)
    counts = np.bincount(list(itertools.chain(*found)), minlength=60).reshape(3, 20)
    assert not counts[1].any()
    assert sorted(counts[[0, 2]].sum(axis=1).tolist()) == [20, 40]
    assert [sorted(step) for step in found] == [
        sorted(step) for step in together(data, 1, global_batch_size=10, max_quarantine=0.5)
    ]


@pytest.mark.parametrize("as_", ["numpy", "arrow"])
def test_text_that_is_none_is_damage_in_every_form(tmp_path: Path, as_: str) -> None:
    """Also inside structures; what is set aside does not depend on the form of batches."""
    for number in range(4):
        table = pa.table({"text": ["größe"] * 9, "of": [{"x": f"{number} größe"}] * 9})
        pq.write_table(table, tmp_path / f"{number}.parquet", compression="none", use_dictionary=False)
    for number, text in ((1, "größe"), (2, "2 größe")):
        path = tmp_path / f"{number}.parquet"
        data, found = path.read_bytes(), text.encode()
        path.write_bytes(data.replace(found, found.replace(b"\xc3", b"\xff"), 5))
    with stream(tmp_path, as_=as_, global_batch_size=6, max_quarantine=0.5) as one:
        for _ in one:
            pass
        assert {Path(aside.url).name for aside in one.quarantined} == {"1.parquet", "2.parquet"}


def test_a_line_that_is_damaged_sets_its_range_aside(tmp_path: Path) -> None:
    """Of lines too a unit is a whole; masked rows at the end of an epoch are what they were."""
    for number in range(4):
        (tmp_path / f"{number}.jsonl").write_text("".join(f'{{"id": {number * 10 + i}}}\n' for i in range(10)))
    found = manifest.build(tmp_path, count=True)
    path = tmp_path / "2.jsonl"
    path.write_text(path.read_text().replace('{"id": 25}', '{"id": "x}'))
    with stream(found, global_batch_size=16, tail="wrap", shuffle=False) as one:
        batches = list(one)
        assert [(aside.unit, aside.rows) for aside in one.quarantined] == [(0, 10)]
    rows = np.concatenate([batch["id"] for batch in batches])
    assert rows[:20].tolist() == list(range(20))
    assert len(set(rows[20:30].tolist())) == 10
    assert set(rows[20:30].tolist()) < {*range(20), *range(30, 40)}
    assert rows[30:40].tolist() == list(range(30, 40))
    assert [int(batch.mask.sum()) for batch in batches] == [16, 16, 8]
