"""Filters and packing: the rows of plain Python, in an order that is the same for any number of ranks."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from torch.utils.data import DataLoader

from runner import Mix, Pack, Stream
from runner.data.manifest import Manifest, build
from runner.data.stream.views import filters, notes, packed, runs
from runner.data.stream.views import seen as seeing
from runner.data.stream.views.seen import seen
from runner.data.stream.views.viewed import Viewed
from runner.errors import DataError, SpecError
from tests.seeds import seeds
from tests.unit.data import views_kit as kit
from tests.unit.data.kit import register_remote

FILTERS: dict[str, tuple[Any, Callable[[kit.Row], bool]]] = {
    "text": (pc.field("lang") == "en", lambda row: row["lang"] == "en"),
    "not": (~(pc.field("lang") == "en"), lambda row: row["lang"] not in ("en", None)),
    "null": (
        pc.field("lang").is_null() | pc.field("id").isin([3, 5, 40]),
        lambda r: r["lang"] is None or r["id"] in (3, 5, 40),
    ),
    "fraction": (pc.field("score") >= 2, lambda row: row["score"] is not None and row["score"] >= 2),
    "number": ((pc.field("id") >= 20) & (pc.field("id") < 90), lambda row: 20 <= row["id"] < 90),
    "function": (lambda rows: pc.not_equal(rows["lang"], "de"), lambda row: row["lang"] not in ("de", None)),
    "of": (
        (lambda rows: (rows["id"].to_numpy() % 5) > 1, ["id"]),
        lambda row: row["id"] % 5 > 1,
    ),
}


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def rows_of(batch: Any) -> list[tuple[int, str | None]]:
    return list(zip(batch["id"].tolist(), batch["lang"].tolist(), strict=True))


def packs_of(batch: Any) -> list[Any]:
    names = ("tokens", "labels", "tokens.document", "tokens.position")
    return [tuple(map(tuple, row)) for row in zip(*(batch[name].tolist() for name in names), strict=True)]


def try_seen(manifest: Manifest, *view: Any, nothing: bool) -> Manifest | None:
    """The view; None where nothing is left, which is an error."""
    if not nothing:
        return seen(manifest, *view)
    with pytest.raises(DataError, match="no row is left"):
        seen(manifest, *view)
    return None


@pytest.mark.parametrize("seed", seeds(7, 60))
def test_filters(tmp_path: Path, seed: int) -> None:
    """At each position stands the row of plain Python, for any filter, format, lanes, ranks and resumes."""
    random = np.random.default_rng(seed)
    format = ("parquet", "arrow", "jsonl")[seed % 3]
    keep, plain = list(FILTERS.values())[seed % len(FILTERS)]
    files = kit.some_units(random)
    units = kit.kept(kit.in_units(files, format), plain)
    view = try_seen(kit.written(tmp_path / "data", files, format), keep, None, nothing=not units)
    if view is None:
        return
    view = kit.cut_otherwise(view, random)
    expected = kit.expected(view, seed, [[(r["id"], r["lang"]) for r in rows] for rows in units], 2)
    found = kit.streamed(
        random, len(expected), rows_of, view, seed=seed, epochs=2, tail="wrap", columns=["id", "lang"], as_="numpy"
    )
    assert found == dict(enumerate(expected))


@pytest.mark.parametrize("seed", seeds(7, 60))
def test_packing(tmp_path: Path, seed: int) -> None:
    """Packed rows are those of plain Python, with documents and positions, also behind a filter."""
    random = np.random.default_rng(1000 + seed)
    format = ("parquet", "arrow", "jsonl")[seed % 3]
    files = kit.some_units(random)
    units = kit.in_units(files, format)
    keep = None
    if seed % 2:
        keep, plain = FILTERS["text" if seed % 4 == 1 else "function"]
        units = kit.kept(units, plain)
    length, separator = int(random.integers(1, 40)), 7 if seed % 5 == 0 else None
    expected = kit.packed(units, length, -1, separator)
    pack = Pack(("tokens", "labels"), length, fill=-1, separator=separator)
    view = try_seen(kit.written(tmp_path / "data", files, format), keep, pack, nothing=not expected)
    if view is None:
        return
    view = kit.cut_otherwise(view, random)
    at = kit.expected(view, seed, expected, 2)
    found = kit.streamed(random, len(at), packs_of, view, seed=seed, epochs=2, tail="wrap", as_="numpy")
    assert found == dict(enumerate(at))


@pytest.mark.parametrize("seed", range(30))
def test_runs(seed: int) -> None:
    """Rows of runs, made of documents a few at a time, expand to what plain Python makes of them."""
    random = np.random.default_rng(seed)
    length = int(random.integers(1, 12))
    documents = random.integers(1, 9, int(random.integers(0, 30)))
    rest, first, rows = np.zeros(0, np.int64), 0, []
    for part in np.array_split(documents, int(random.integers(1, 6))):
        made, rest, first = runs.encoded(np.concatenate([rest, part]), first, length)
        rows += made.to_pylist()
    if len(rest):
        rows += runs.last(rest, first).to_pylist()
    units = [[{"tokens": [1] * int(size), "labels": [1] * int(size)} for size in documents]]
    (expected,) = kit.packed(units, length) or [[]]
    values = np.array([value for row in rows for value in row], np.int32)
    offsets = np.cumsum([0, *map(len, rows)])
    for what, place in ((runs.DOCUMENT, 2), (runs.POSITION, 3)):
        found = runs.expanded(values, offsets, length, what)
        assert found.dtype == np.int32
        assert [tuple(row) for row in found.tolist()] == [row[place] for row in expected]


@pytest.fixture
def simple(tmp_path: Path) -> str:
    """Four row groups of 25 documents of 0 to 6 tokens."""
    n = 100
    table = pa.table(
        {
            "id": list(range(n)),
            "even": [i % 2 == 0 for i in range(n)],
            "tokens": pa.array([[i] * (i % 7) for i in range(n)], pa.list_(pa.int32())),
            "text": [f"row {i}" for i in range(n)],
        }
    )
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data" / "a.parquet", row_group_size=25)
    return str(tmp_path / "data")


def test_columns_of_a_filter_are_not_given(simple: str) -> None:
    """A filter looks at columns that the batch has not."""
    (batch,) = Stream(simple, 50, filter=pc.field("even"), columns=["text"], shuffle=False)
    assert list(batch) == ["text"]
    assert batch["text"].tolist() == [f"row {i}" for i in range(0, 100, 2)]


def test_a_filter_without_columns(simple: str) -> None:
    """An expression that looks at no column keeps all rows."""
    assert seen(build(simple), pc.scalar(True)).rows == 100


def test_only_what_a_filter_needs_is_read(simple: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting reads the filter's own columns, and no unit whose statistics decide."""
    asked: list[tuple[Any, Any]] = []
    read = Manifest.read

    def noted(self: Manifest, shard: int, units: Any = None, columns: Any = None, rows: Any = None) -> Any:
        asked.append((list(units), list(columns)))
        return read(self, shard, units, columns, rows)

    monkeypatch.setattr(Manifest, "read", noted)
    view = seen(build(simple), (pc.field("id") >= 30) & (pc.field("tokens").is_valid() | (pc.field("id") < 60)))
    assert sorted(asked) == [([place], ["id", "tokens"]) for place in range(4)]  # of lists statistics tell nothing
    assert view.rows == 70
    asked.clear()
    view = seen(build(simple), pc.field("id") >= 30)
    assert asked == [([1], ["id"])]
    assert [unit.rows for _, unit in view.units] == [20, 25, 25]


def test_statistics_and_counting_agree(simple: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A view has the same id whether statistics decided a unit or its rows were looked at."""
    keep = pc.field("id") >= 30
    first = seen(build(simple), keep).id
    monkeypatch.setattr(filters.statistics, "by_footer", lambda *_: {})
    monkeypatch.setattr(notes, "kept", lambda key, length, count: count())
    assert seen(build(simple), keep).id == first


def test_nan_is_not_decided_by_statistics(tmp_path: Path) -> None:
    """Statistics of fractions pass over NaN, so they decide nothing."""
    pq.write_table(pa.table({"x": [1.0, float("nan"), 2.0]}), tmp_path / "a.parquet")
    assert seen(build(str(tmp_path)), pc.field("x") >= 1).rows == 2
    assert seen(build(str(tmp_path)), ~(pc.field("x") >= 1)).rows == 1


def test_folders_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter of hive partitions reads no file; with another column it reads those of the right folder alone."""
    for year in (2023, 2024):
        (tmp_path / "d" / f"year={year}").mkdir(parents=True)
        pq.write_table(pa.table({"x": [1, 2, 3]}), tmp_path / "d" / f"year={year}" / "a.parquet")
    asked: list[int] = []
    read = Manifest.read

    def noted(self: Manifest, shard: int, *rest: Any) -> Any:
        asked.append(shard)
        return read(self, shard, *rest)

    monkeypatch.setattr(Manifest, "read", noted)
    data = build(str(tmp_path / "d"))
    assert seen(data, pc.field("year") == 2024).rows == 3
    assert seen(data, (lambda rows: pc.equal(rows["year"], 2024), ["year"])).rows == 3
    assert asked == []
    assert seen(data, (pc.field("year") == 2024) & (pc.field("x") == 2)).rows == 1
    assert asked == [1]


def test_counts_are_noted(simple: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was counted with an expression is counted once; a function, and a damaged note, are counted again."""
    counted: list[int] = []
    made = filters.Filtered.counter

    def noted(self: Any, source: Manifest) -> Any:
        counted.append(1)
        return made(self, source)

    monkeypatch.setattr(filters.Filtered, "counter", noted)
    first = seen(build(simple), pc.field("even"))
    assert seen(build(simple), pc.field("even")).id == first.id
    assert len(counted) == 1
    assert seen(build(simple), lambda rows: rows["even"]).id == first.id  # the same rows are the same data
    assert len(counted) == 2
    assert seen(build(simple), ~pc.field("even")).id != first.id
    for note in Path(notes._folder()).iterdir():
        note.write_text('[[-1, "all"]]')
    assert seen(build(simple), pc.field("even")).id == first.id
    assert len(counted) == 4


def test_one_counts_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several that want the same counts at once one counts; where the cache has no locks, or no room, each does."""
    began, calls = threading.Barrier(4), []

    def count() -> list[Any]:
        calls.append(1)
        return [[3, "all"]]

    def want(key: str) -> Any:
        began.wait(60)
        return notes.kept(key, 1, count)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(want, ["some"] * 4)) == [[[3, "all"]]] * 4
        assert len(calls) == 1
        monkeypatch.setattr(notes.fcntl, "flock", refused)
        assert list(pool.map(want, ["other"] * 4)) == [[[3, "all"]]] * 4
        monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
        assert list(pool.map(want, ["none"] * 4)) == [[[3, "all"]]] * 4
    assert 6 <= len(calls) <= 9


def refused(*_: Any) -> None:
    raise OSError("no locks available")


def test_a_filter_that_changes_its_mind(simple: str) -> None:
    """Other rows than were counted are an error, also where they are as many."""
    calls: list[int] = []

    def impure(rows: pa.RecordBatch) -> Any:
        calls.append(1)
        return np.arange(rows.num_rows) == (0 if len(calls) <= 4 else 1)

    with pytest.raises(DataError, match="other rows come of it, and 1 were counted"):
        list(Stream(simple, 1, filter=impure))
    calls.clear()

    def growing(rows: pa.RecordBatch) -> Any:
        calls.append(1)
        return np.arange(rows.num_rows) < (1 if len(calls) <= 4 else 2)

    with pytest.raises(DataError, match=r"2 rows come of it, and 1 were counted"):
        list(Stream(simple, 1, filter=growing))


@pytest.mark.parametrize(
    ("keep", "error", "words"),
    [
        (5, SpecError, "filter=5"),
        (pc.field(0) > 3, SpecError, "by number"),
        (pc.field("nope") > 3, DataError, "nope"),
        (pc.field("id"), DataError, "int64"),
        (pc.field("id") == "x", DataError, "cannot be used"),
        ((pc.field("id") > 3, ["idd"]), DataError, "no column 'idd'"),
        (lambda rows: None, DataError, "NoneType"),
        (lambda rows: [1] * len(rows), DataError, "gives list"),
        (lambda rows: rows["id"].to_pandas(), DataError, "gives Series"),
        (lambda rows: rows["nope"], DataError, "the filter raised KeyError: .*nope"),
        (pc.divide(pc.field("id"), 0) > 1, DataError, "the filter raised ArrowInvalid: divide by zero"),
        (lambda rows: np.ones(3, bool), DataError, "3 booleans for 25 rows"),
        (pc.field("id") > 1000, DataError, "no row is left"),
    ],
)
def test_wrong_filters(simple: str, keep: Any, error: type[Exception], words: str) -> None:
    """What is no filter of this data is an error that says so."""
    with pytest.raises(error, match=words):
        Stream(simple, 10, filter=keep)


@pytest.mark.parametrize(
    "keep",
    [
        lambda rows: rows["even"].to_pylist(),
        lambda rows: tuple(rows["even"].to_numpy(zero_copy_only=False)),
        lambda rows: rows["even"].to_pandas(),
        lambda rows: [one or None for one in rows["even"].to_pylist()],
        lambda rows: rows["even"].to_pandas().astype("boolean").replace(False, None),
    ],
)
def test_booleans_in_other_forms(simple: str, keep: Any) -> None:
    """A filter may give lists and pandas' columns: the same rows are kept as by Arrow's, and a null is False."""
    assert seen(build(simple), keep).id == seen(build(simple), lambda rows: rows["even"]).id


def test_the_state_knows_the_filter(simple: str) -> None:
    """A state of other rows is refused; of the same rows, however they are told, it is not."""
    state = Stream(simple, 10, filter=pc.field("even")).state_dict()
    Stream(simple, 10, filter=lambda rows: rows["even"]).load_state_dict(state)
    for other in (None, ~pc.field("even")):
        with pytest.raises(DataError, match="manifest_id"):
            Stream(simple, 10, filter=other).load_state_dict(state)


def test_views_in_workers(simple: str) -> None:
    """A DataLoader's workers, and a pickled copy, give a view's batches in its order."""
    arguments: dict[str, Any] = {"filter": pc.field("even"), "pack": Pack("tokens", 5), "epochs": 2, "tail": "wrap"}
    stream = Stream(simple, 4, **arguments)
    expected = [(b["tokens"].tolist(), b["tokens.document"].tolist()) for b in stream]
    copy = pickle.loads(pickle.dumps(Stream(simple, 4, **arguments)))
    assert [(b["tokens"].tolist(), b["tokens.document"].tolist()) for b in copy] == expected
    loader = DataLoader(Stream(simple, 4, **arguments), batch_size=None, num_workers=2, timeout=60)  # type: ignore[arg-type]
    assert [(b["tokens"].tolist(), b["tokens.document"].tolist()) for b in loader] == expected


# -- packing ---------------------------------------------------------------------------------------------------------


def test_tokens_are_counted_by_the_footer(simple: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Parquet's plain lists no token is read to count them; a file that says something untrue is an error."""
    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "read", None)
        view = seen(build(simple), pc.field("id") >= 25, Pack("tokens", 8))
        total = [sum(i % 7 for i in range(start, start + 25)) for start in (25, 50, 75)]
        assert [unit.rows for _, unit in view.units] == [-(-tokens // 8) for tokens in total]
    monkeypatch.setattr(packed.Packed, "_told", lambda *_: 1000)
    with pytest.raises(DataError, match="come of it, and 125 were counted"):
        list(Stream(simple, 1, pack=Pack("tokens", 8, fill=3)))


def test_tokens_are_not_copied(simple: str) -> None:
    """Packed rows that lie in one decoded batch are that batch's own memory."""
    manifest = build(simple)
    view = packed.Packed(Pack("tokens", 8), manifest)
    (batch,) = manifest.read(0, [0], ["tokens"])
    first = next(view.rows(iter([batch]), ["tokens"]))
    assert isinstance(first, pa.RecordBatch)
    assert first.num_rows == sum(i % 7 for i in range(25)) // 8
    assert first.column(0).flatten().buffers()[1].address == batch.column(0).values.buffers()[1].address


@pytest.mark.parametrize("as_", ["torch", "numpy", "arrow"])
def test_forms_of_packed_rows(simple: str, as_: str) -> None:
    """Packed rows are [B, length] in each form, int32 beside the type of the tokens."""
    batch = next(Stream(simple, 4, pack=Pack("tokens", 6), shuffle=False, as_=as_))
    tokens, document = batch["tokens"], batch["tokens.document"]
    if as_ == "arrow":
        assert tokens.type == pa.list_(pa.field("element", pa.int32(), nullable=False), 6)
        assert document.type == pa.list_(pa.int32(), 6)
        tokens, document = np.array(tokens.to_pylist()), np.array(document.to_pylist())
    assert tuple(tokens.shape) == tuple(document.shape) == (4, 6)
    assert tokens.tolist()[0] == [1, 2, 2, 3, 3, 3]
    assert document.tolist()[0] == [0, 1, 1, 2, 2, 2]
    assert list(next(Stream(simple, 4, pack=Pack("tokens", 6), columns=["tokens.position"]))) == ["tokens.position"]


@pytest.mark.parametrize("kind", ["int64", "uint16", "float32", "bool", "large", "fixed", "null"])
def test_kinds_of_lists(tmp_path: Path, kind: str) -> None:
    """Lists of any numbers are packed, large and fixed ones too, with a separator; a null list has no tokens."""
    items = {"float32": pa.float32(), "uint16": pa.uint16(), "bool": pa.bool_()}.get(kind, pa.int64())
    of = {"large": pa.large_list(items), "fixed": pa.list_(items, 2)}.get(kind, pa.list_(items))
    values: list[Any] = [[1, 0], [1, 1], None if kind == "null" else [0, 1]]
    if kind == "bool":
        values = [[bool(one) for one in row] for row in values]
    pq.write_table(pa.table({"tokens": pa.array(values, of)}), tmp_path / "a.parquet")
    (batch,) = Stream(str(tmp_path), 2, pack=Pack("tokens", 5, fill=1, separator=0), tail="wrap", shuffle=False)
    null = kind == "null"
    assert batch["tokens"].tolist() == [[1, 0, 0, 1, 1], [0, 0, 1, 1, 1] if null else [0, 0, 1, 0, 1]]
    assert batch["tokens.document"].tolist() == [[0, 0, 0, 1, 1], [0, 1, -1, -1, -1] if null else [0, 1, 1, 1, -1]]


@pytest.mark.parametrize(
    ("pack", "error", "words"),
    [
        (lambda: Pack("tokens", 0), SpecError, "length=0"),
        (lambda: Pack((), 3), SpecError, "columns"),
        (lambda: Pack(("tokens", "tokens"), 3), SpecError, "once"),
        (lambda: Pack("tokens", 3, fill={"x": 1}), SpecError, "fill"),
        (lambda: Pack("tokens", 3, separator="a"), SpecError, "separator"),
        (lambda: Pack("tokns", 3), DataError, "no column 'tokns'"),
        (lambda: Pack("text", 3), DataError, "'text' of string"),
        (lambda: Pack("tokens", 3, fill=1 << 40), DataError, "int32"),
        (lambda: Pack("tokens", 3, fill=1 << 80), DataError, "int32"),
        (lambda: Pack("tokens", 3, separator=0.5), DataError, "0.5 in a column of int32"),
        (lambda: "tokens", SpecError, "pack='tokens'"),
    ],
)
def test_wrong_packs(simple: str, pack: Callable[[], Any], error: type[Exception], words: str) -> None:
    """What cannot be packed is an error that says so."""
    with pytest.raises(error, match=words):
        Stream(simple, 1, pack=pack())


def test_lists_of_different_length(tmp_path: Path) -> None:
    """Columns whose lists differ in length in a row are an error that names both."""
    pq.write_table(pa.table({"a": [[1, 2], [3]], "b": [[1, 2], [3, 4]]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="1 values in 'a' and 2 in 'b'"):
        Stream(str(tmp_path), 1, pack=Pack(("a", "b"), 2))


def test_nulls_inside_lists(tmp_path: Path) -> None:
    """A null among tokens is an error that names the column."""
    pq.write_table(pa.table({"a": [[1, None], [3]]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="'a': 1 nulls inside lists"):
        list(Stream(str(tmp_path), 1, pack=Pack("a", 1)))


def test_a_view_is_no_file(simple: str) -> None:
    """A manifest of a view is not written: whoever read it would have other rows."""
    view = seen(build(simple), pc.field("even"))
    assert isinstance(view, Viewed)
    assert view.counted() is view
    with pytest.raises(DataError, match="filter"):
        view.to_bytes()
    assert json.dumps(view.view.said())


def test_nulls_of_a_filter_are_false() -> None:
    """What is neither True nor False is not kept, in slices too."""
    found = pa.array([True, None, False, None, True, None, True])
    assert filters._booleans(found, 7).tolist() == [True, False, False, False, True, False, True]
    assert filters._booleans(found[3:], 4).tolist() == [False, True, False, True]
    assert filters._booleans(pa.chunked_array([found[1:3], found[4:]]), 5).tolist() == [False, False, True, False, True]
    assert filters._booleans([None, None], 2).tolist() == [False, False]


def test_much_padding_is_told(simple: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever packs units that are short for the length is told how much of the rows is padding."""
    told: list[str] = []
    monkeypatch.setattr(seeing._log, "warning", lambda words, *values: told.append(words % values))
    seen(build(simple), None, Pack("tokens", 5))
    assert not told
    seen(build(simple), None, Pack("tokens", 200))
    assert [words.partition(": ")[2].partition(",")[0] for words in told] == ["63 % of the packed rows is padding"]


def test_views_of_remote_files(simple: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Views of remote files give what those of local ones do, with a cache too, which then answers for the files."""
    fs = register_remote(monkeypatch)()
    fs.pipe_file("/far/a.parquet", (Path(simple) / "a.parquet").read_bytes())
    arguments: dict[str, Any] = {"filter": pc.field("even"), "pack": Pack("tokens", 5), "as_": "numpy"}
    expected = [batch["tokens"].tolist() for batch in Stream(simple, 3, **arguments)]
    for _ in range(2):
        stream = Stream("remote://far", 3, cache=tmp_path / "kept", **arguments)
        assert [batch["tokens"].tolist() for batch in stream] == expected
        stream.close()
    both = Mix({"near": 1, "far": 1}, {"near": simple, "far": "remote://far"})
    assert sum(len(batch["tokens"]) for batch in Stream(both, 1, cache=tmp_path / "kept", **arguments)) == 64


LOOKING = """
import sys
import pyarrow.compute as pc
from runner import Pack
from runner.data.manifest import build
from runner.data.stream.views.seen import seen
from runner.errors import DataError
for view in ((pc.field("id") >= 30, None), (None, Pack("tokens", 5))):
    try:
        print(seen(build(sys.argv[1]), *view).rows)
    except DataError as error:
        print("DataError")
"""


@pytest.mark.parametrize("kind", [b"\x15\x04\x19", b"\x15\x02\x19"], ids=["int64", "int32"])
def test_chunks_of_another_type(tmp_path: Path, kind: bytes) -> None:
    """A column chunk that claims another type than its column's is not asked for statistics: Python would end."""
    table = pa.table(
        {"id": list(range(60)), "tokens": pa.array([[i] * (i % 4) for i in range(60)], pa.list_(pa.int32()))}
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=20)
    data = (tmp_path / "a.parquet").read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    at = data.rindex(kind)  # of the last row group: where the footer has the type of a chunk, before its encodings
    assert at > footer
    (tmp_path / "a.parquet").write_bytes(data[: at + 1] + b"\x2e" + data[at + 2 :])
    command = [sys.executable, "-c", LOOKING, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "DataError" in done.stdout
