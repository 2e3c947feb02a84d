"""Mixtures: exact shares at every position, each source in an order of its own, the same for any number of ranks."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from torch.utils.data import DataLoader

from runner import Mix, Pack, Stream
from runner.data.lanes import layout
from runner.data.manifest import Manifest, build
from runner.data.shards import Unit
from runner.data.stream.mixing import schedule, sources
from runner.data.stream.mixing.order import seed_of
from runner.data.stream.mixing.reader import joined
from runner.data.stream.mixing.schedule import Schedule, quotas
from runner.data.stream.ragged import Ragged
from runner.errors import DataError, SpecError
from tests.seeds import seeds
from tests.unit.data import views_kit as kit

Weights = Mapping[str, float]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


# -- the schedule ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([0.7, 0.3], (7, 3)),
        ([1, 1, 2], (1, 1, 2)),
        ([5], (1,)),
        ([0, 3, 0], (0, 1, 0)),
        ([0.1, 0.2, 0.7], (1, 2, 7)),
        ([1e-9, 1], (1, 32767)),
    ],
)
def test_quotas(weights: Sequence[float], expected: tuple[int, ...]) -> None:
    """Weights are the fractions that they are written as, in lowest terms, or rounded to the longest period."""
    assert quotas(weights) == expected


@pytest.mark.parametrize("seed", range(30))
def test_rounded_quotas(seed: int) -> None:
    """Weights without a small denominator are shared out by the largest remainder; none that is there is lost."""
    random = np.random.default_rng(seed)
    weights = random.random(int(random.integers(1, 40))) ** 8
    found = quotas(weights.tolist())
    assert all(found)
    assert len(found) == 1 or sum(found) == schedule.LONGEST
    exact = weights / weights.sum() * sum(found)
    assert (np.abs(found - exact)[exact > 1] < 1 + len(found)).all()


@pytest.mark.parametrize("seed", range(40))
def test_shares_are_exact_at_every_position(seed: int) -> None:
    """At every position each source has had its share but for less than one sample."""
    random = np.random.default_rng(seed)
    weights = random.integers(0, 30, int(random.integers(1, 9))).tolist()
    weights[int(random.integers(0, len(weights)))] += 1
    names = [str(i) for i in range(len(weights))]
    made = Schedule(names, [(0, dict(zip(names, weights, strict=True)))])
    found, _ = made.locate(np.arange(700))
    total = sum(weights)
    had = [0] * len(weights)
    for position, source in enumerate(found.tolist()):
        had[source] += 1
        for count, weight in zip(had, weights, strict=True):
            assert abs(count * total - weight * (position + 1)) < total


@pytest.mark.parametrize("seed", range(20))
def test_the_schedule_counts(seed: int) -> None:
    """The index in a source is how often the source came before, also behind changes of weights; any position alone."""
    random = np.random.default_rng(seed)
    names = ["a", "b", "c"][: int(random.integers(1, 4))]
    starts = [0, *sorted(set(random.integers(1, 400, int(random.integers(0, 4))).tolist()))]
    phases: list[tuple[int, Weights]] = []
    for start in starts:
        weights = random.integers(0, 4, len(names)).tolist()
        weights[-1] += 1
        phases.append((start, dict(zip(names, weights, strict=True))))
    made = Schedule(names, phases)
    found, index = made.locate(np.arange(600))
    had = [0] * len(names)
    for source, number in zip(found.tolist(), index.tolist(), strict=True):
        assert number == had[source]
        had[source] += 1
    for position in random.integers(0, 600, 20).tolist():
        one, at = made.locate(np.array([position]))
        assert (one[0], at[0]) == (found[position], index[position])
    assert made.until(0) == made.until(1) == [[0, list(quotas(list(phases[0][1].values())))]]
    assert [start for start, _ in made.until(10**6)] == starts


def test_never_changes() -> None:
    """The schedule, pinned: a change here makes every resumed run see other samples."""
    made = Schedule(["a", "b", "c"], [(0, {"a": 0.5, "b": 0.3, "c": 0.2})])
    assert made.locate(np.arange(10))[0].tolist() == PINNED
    assert seed_of(7, "web") == PINNED_SEED


PINNED = [0, 1, 0, 2, 0, 1, 0, 2, 1, 0]
PINNED_SEED = 13432156067519595


# -- against plain Python ------------------------------------------------------------------------------------------


def made_of(
    manifests: Mapping[str, Manifest], phases: Sequence[tuple[int, Weights]], seed: int, end: int, ids: Any
) -> Any:
    """What stands at each position of a mixture: its source and its row, counted one position after the other."""
    names = list(manifests)
    turns = Schedule(names, phases).locate(np.arange(end))[0].tolist()
    had, epochs = dict.fromkeys(names, 0), {}
    found = []
    for turn in turns:
        name = names[turn]
        epoch, at = divmod(had[name], manifests[name].rows)
        had[name] += 1
        if (name, epoch) not in epochs:
            epochs[name, epoch] = kit.epoch_of(manifests[name], seed_of(seed, name), ids[name], epoch)
        found.append((turn, epochs[name, epoch][at]))
    return found


@pytest.fixture
def _finely_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources of a mixture have lanes and blocks as large ones have."""
    monkeypatch.setattr(sources, "layout", lambda units, among: (1 + len(units) % 5, 300 + 7 * len(units)))


@pytest.mark.usefixtures("_finely_cut")
@pytest.mark.parametrize("seed", seeds(3, 30))
def test_mixtures(tmp_path: Path, seed: int) -> None:
    """Each position has the source and the row of plain Python, for any lanes, ranks, batches, resumes and weights."""
    random = np.random.default_rng(seed)
    names = ["web", "code", "books", "tiny"][: int(random.integers(1, 5))]
    data: dict[str, Manifest] = {}
    ids: dict[str, list[list[int]]] = {}
    for name in names:
        files = [[TINY[:4]], [TINY[4:5]], [TINY[5:]]] if name == "tiny" else kit.some_units(random)
        units = kit.in_units(files)
        data[name] = kit.written(tmp_path / name, files)
        ids[name] = [[row["id"] for row in rows] for rows in units]
    weights = dict(zip(names, (random.integers(1, 10, len(names)) / 10).tolist(), strict=True))
    later = dict(zip(names, random.integers(1, 5, len(names)).tolist(), strict=True))
    change = int(random.integers(1, 300))
    mix = Mix(weights, data, at_rows={change: later} if seed % 2 else {})
    phases: list[tuple[int, Weights]] = [(0, weights), *([(change, later)] if seed % 2 else [])]
    stream = Stream(mix, 1, seed=seed, as_="numpy")
    assert stream.rows == sum(manifest.rows for manifest in data.values())
    end = 2 * stream.rows
    expected = made_of(stream.manifests, phases, seed, end, ids)

    def read(batch: Any) -> list[tuple[int, int]]:
        return list(zip(batch.sources.tolist(), batch["id"].tolist(), strict=True))

    found = kit.streamed(random, end, read, mix, seed=seed, epochs=2, tail="wrap", columns=["id", "lang"], as_="numpy")
    assert found == dict(enumerate(expected))


@pytest.mark.usefixtures("_finely_cut")
@pytest.mark.parametrize("batch", [6, 31, 64])
@pytest.mark.parametrize("columns", [["id"], ["id", "lang"]])
def test_a_batch_that_wraps_to_an_earlier_epoch_of_a_source(tmp_path: Path, batch: int, columns: list[str]) -> None:
    """What a last batch is filled up with may be of an epoch that a source is long past; its open blocks stay right."""
    data: dict[str, Manifest] = {}
    ids: dict[str, list[list[int]]] = {}
    for name, count in {"few": 40, "many": 400}.items():
        rows = [{**TINY[0], "id": i} for i in range(count)]
        files = [[rows[low : low + 10]] for low in range(0, count, 10)]
        data[name] = kit.written(tmp_path / name, files)
        ids[name] = [[row["id"] for row in unit] for unit in kit.in_units(files)]
    weights = {"few": 0.5, "many": 0.5}
    stream = Stream(Mix(weights, data), batch, epochs=3, tail="wrap", columns=columns, as_="numpy")
    expected = made_of(stream.manifests, [(0, weights)], 0, 3 * stream.rows, ids)
    found = {
        position: (source, row)
        for one in stream
        for position, mask, source, row in zip(one.positions, one.mask, one.sources, one["id"], strict=True)
        if mask
    }
    assert found == dict(enumerate(expected))


TINY: list[kit.Row] = [
    {"id": -i, "lang": "en", "score": 1.0, "tokens": [1, 2, 3], "labels": [-1, -2, -3]} for i in range(1, 8)
]


@pytest.fixture
def mix(tmp_path: Path) -> Mix:
    """Numbers from 0 up, from 1,000 up, and from 2,000 up in a source of five rows."""
    urls = {}
    for name, (start, count) in {"web": (0, 300), "code": (1000, 200), "few": (2000, 5)}.items():
        (tmp_path / name).mkdir()
        ids = list(range(start, start + count))
        table = pa.table({"id": ids, "text": [f"{name} {i}" for i in ids], "tokens": [[i] * (i % 4) for i in ids]})
        pq.write_table(table, tmp_path / name / "a.parquet", row_group_size=60)
        urls[name] = str(tmp_path / name)
    return Mix({"web": 0.6, "code": 0.3, "few": 0.1}, urls)


def test_an_epoch(mix: Mix) -> None:
    """An epoch has as many positions as all sources have rows; each source goes on where it was, over and over."""
    stream = Stream(mix, 5, epochs=2, as_="numpy")
    assert len(stream) == 2 * 101
    assert stream.sources == ("web", "code", "few")
    batches = list(stream)
    assert [batch.epoch for batch in batches] == [0] * 101 + [1] * 101
    assert sorted(np.concatenate([batch.positions for batch in batches]).tolist()) == list(range(1010))
    ids = np.concatenate([batch["id"][np.argsort(batch.positions)] for batch in batches])
    few, web = ids[ids >= 2000], ids[ids < 1000]
    assert len(few) == 101
    for start in range(0, 100, 5):
        assert sorted(few[start : start + 5].tolist()) == list(range(2000, 2005))
    assert sorted(web[:300].tolist()) == list(range(300))
    for batch in batches:
        assert (np.searchsorted([1000, 2000], batch["id"], side="right") == batch.sources).all()
        assert batch["text"].tolist() == [
            f"{stream.sources[s]} {i}" for s, i in zip(batch.sources, batch["id"], strict=True)
        ]


def test_each_rank_has_its_share(mix: Mix) -> None:
    """A rank has its share of every source in every step, but for less than two samples."""
    gangs = [Stream(mix, global_batch_size=64, rank=rank, world_size=4, as_="numpy") for rank in range(4)]
    for batches in zip(*gangs, strict=True):
        whole = np.bincount(np.concatenate([batch.sources for batch in batches]), minlength=3)
        for batch in batches:
            assert len(batch.sources) == 16
            assert (np.abs(np.bincount(batch.sources, minlength=3) - whole / 4) < 2).all()


def test_weights_change_at_a_step(mix: Mix) -> None:
    """From the named step on the shares are the new ones, exactly, and sources go on where they were."""
    changes = {40: {"web": 0, "code": 1, "few": 1}, 80: {"web": 1, "code": 0, "few": 0}}
    changed = Mix(mix.weights, mix.sources, at=changes)
    batches = list(itertools.islice(Stream(changed, 5, epochs=None, as_="numpy"), 120))
    shares = np.array([np.bincount(batch.sources, minlength=3) for batch in batches])
    assert shares.reshape(60, 2, 3).sum(1).tolist() == [[6, 3, 1]] * 20 + [[0, 5, 5]] * 20 + [[10, 0, 0]] * 20
    in_turn = [batch["id"][np.argsort(batch.positions)] for batch in batches]
    web = [i for i in np.concatenate(in_turn).tolist() if i < 1000]
    assert sorted(web[:300]) == list(range(300))


def test_the_future_may_change(mix: Mix) -> None:
    """A state knows the weights that had a part in it; later ones may be others, earlier ones may not."""
    change = {"web": 1, "code": 1, "few": 1}
    stream = Stream(Mix(mix.weights, mix.sources, at={20: change}), 10, epochs=None, as_="numpy")
    for _ in range(20):
        next(stream)
    state = stream.state_dict()
    Stream(mix, 7, epochs=None, as_="numpy").load_state_dict(state)
    other = Stream(Mix(mix.weights, mix.sources, at={25: change}), 10, epochs=None, as_="numpy")
    other.load_state_dict(state)
    assert len(next(other)["id"]) == 10
    next(stream)
    with pytest.raises(DataError, match="quotas is"):
        other.load_state_dict(stream.state_dict())
    with pytest.raises(DataError, match="quotas is"):
        Stream(Mix(mix.weights, mix.sources, at={19: change}), 10, epochs=None, as_="numpy").load_state_dict(state)


def test_states_of_other_mixtures(mix: Mix) -> None:
    """A state of other sources, another seed, or of one of them alone is refused; what differs is named."""
    assert mix.sources is not None
    state = Stream(mix, 5, as_="numpy").state_dict()
    other = Mix(
        {"a": 0.6, "b": 0.3, "c": 0.1}, {"a": mix.sources["web"], "b": mix.sources["code"], "c": mix.sources["few"]}
    )
    with pytest.raises(DataError, match="sources is"):
        Stream(other, 5, as_="numpy").load_state_dict(state)
    with pytest.raises(DataError, match="seed is 0 in the state and 1 here"):
        Stream(mix, 5, seed=1, as_="numpy").load_state_dict(state)
    with pytest.raises(DataError, match="manifest_id"):
        Stream(mix.sources["web"], 5, as_="numpy").load_state_dict(state)


@pytest.mark.parametrize("as_", ["torch", "numpy", "arrow"])
def test_forms(mix: Mix, as_: str) -> None:
    """Every form of batches holds the rows of several sources; where nothing is mixed, `sources` is None."""
    batch = next(Stream(mix, 30, as_=as_, shuffle=False))
    texts = batch["text"].to_pylist() if as_ == "arrow" else batch["text"].tolist()
    ids = batch["id"].to_pylist() if as_ == "arrow" else batch["id"].tolist()
    tokens = batch["tokens"].to_pylist() if as_ == "arrow" else batch["tokens"].tolist()
    assert ids[:18] == list(range(18))
    assert texts == [f"{('web', 'code', 'few')[i // 1000]} {i}" for i in ids]
    assert tokens == [[i] * (i % 4) for i in ids]
    assert mix.sources is not None
    assert next(Stream(mix.sources["web"], 3, as_=as_)).sources is None


def test_views_of_a_mixture(mix: Mix) -> None:
    """A filter and packing hold of each source."""
    stream = Stream(mix, 10, filter=pc.field("id") > 100, pack=Pack("tokens", 8), as_="numpy")
    for batch in stream:
        tokens = batch["tokens"][batch["tokens.document"] >= 0]
        assert (tokens > 100).all()
        rows = np.repeat(batch.sources, 8).reshape(-1, 8)[batch["tokens.document"] >= 0]
        assert (np.searchsorted([1000, 2000], tokens, side="right") == rows).all()


def test_mixtures_in_other_processes(mix: Mix) -> None:
    """A DataLoader's workers, and a pickled copy, give a mixture's batches in its order."""
    expected = [(b["id"].tolist(), b.sources.tolist()) for b in Stream(mix, 7, epochs=2)]
    loader = DataLoader(Stream(mix, 7, epochs=2), batch_size=None, num_workers=2, timeout=60)  # type: ignore[arg-type]
    assert [(b["id"].tolist(), b.sources.tolist()) for b in loader] == expected
    stream = Stream(mix, 7, epochs=2)
    taken = [(b["id"].tolist(), b.sources.tolist()) for b in itertools.islice(stream, 30)]
    copy = pickle.loads(pickle.dumps(stream))
    assert [*taken, *((b["id"].tolist(), b.sources.tolist()) for b in copy)] == expected


def test_within_a_budget(mix: Mix) -> None:
    """A budget of memory is shared by the sources; one that is too small is an error."""
    assert len(list(Stream(mix, 5, as_="numpy", memory_bytes=300 << 20))) == 101
    with pytest.raises(SpecError, match="memory_bytes"):
        Stream(mix, 5, as_="numpy", memory_bytes=1 << 20)


def test_types_are_made_one(tmp_path: Path) -> None:
    """int32 and int64, string and dictionary of one column are one type; what holds other values is an error."""
    pq.write_table(pa.table({"x": pa.array([1, 2], pa.int32()), "s": ["a", "b"], "y": [1, 2]}), tmp_path / "a.parquet")
    other = {"x": pa.array([1 << 40], pa.int64()), "s": pa.array(["c"]).dictionary_encode(), "y": ["z"]}
    pq.write_table(pa.table(other), tmp_path / "b.parquet")
    both = Mix({"a": 2, "b": 1}, {"a": str(tmp_path / "a.parquet"), "b": str(tmp_path / "b.parquet")})
    (batch,) = Stream(both, 3, columns=["s", "x"], shuffle=False, as_="numpy")
    assert batch["x"].tolist() == [1, 2, 1 << 40]
    assert batch["s"].tolist() == ["a", "b", "c"]
    with pytest.raises(DataError, match="'y' is string in 'b' and int64"):
        Stream(both, 3, as_="numpy")
    with pytest.raises(DataError, match="no column 'z'"):
        Stream(both, 3, columns=["z"], as_="numpy")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="'s' is in 'a' and not in 'b'"):
        Stream(both, 3, as_="numpy")


def test_types_of_views_are_made_one(tmp_path: Path) -> None:
    """Rows of a filter, and packed lists, take the type that all sources have in common."""
    narrow, wide = pa.list_(pa.int32()), pa.list_(pa.int64())
    pq.write_table(
        pa.table({"x": pa.array([1, 2], pa.int32()), "t": pa.array([[1], [2]], narrow)}), tmp_path / "a.parquet"
    )
    pq.write_table(pa.table({"x": pa.array([3], pa.int64()), "t": pa.array([[1 << 40]], wide)}), tmp_path / "b.parquet")
    few = Stream(str(tmp_path / "a.parquet"), 1, as_="numpy", filter=pc.field("x") > 1).manifest
    (batch,) = Stream(
        Mix({"a": 1, "b": 1}, {"a": few, "b": str(tmp_path / "b.parquet")}), 2, as_="numpy", shuffle=False
    )
    assert (batch["x"].tolist(), batch["t"].tolist()) == ([2, 3], [[2], [1 << 40]])
    urls = {name: str(tmp_path / f"{name}.parquet") for name in "ab"}
    (batch,) = Stream(Mix({"a": 1, "b": 1}, urls), 2, as_="numpy", pack=Pack("t", 2), shuffle=False, tail="wrap")
    assert batch["t"].tolist() == [[1, 2], [1 << 40, 0]]


def test_a_step_of_a_later_epoch(mix: Mix) -> None:
    """Steps are counted as they are made, also where rows are left out at the end of an epoch (here five of 505)."""
    changed = Mix(mix.weights, mix.sources, at={60: {"web": 0, "code": 1, "few": 0}})
    batches = itertools.islice(Stream(changed, 10, epochs=None, as_="numpy"), 70)
    shares = [np.bincount(batch.sources, minlength=3).tolist() for batch in batches]
    assert shares == [[6, 3, 1]] * 60 + [[0, 10, 0]] * 10


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Mix({}), "weights="),
        (lambda: Mix({"a": 0}), "above 0"),
        (lambda: Mix({"a": -1, "b": 2}), "from 0 up"),
        (lambda: Mix({"a": float("nan")}), "weights"),
        (lambda: Mix({"a": float("inf")}), "finite"),
        (lambda: Mix({"a": 1}, {"b": "x"}), "a source for each of"),
        (lambda: Mix({"a": 1, "b": 1}, at={5: {"a": 1}}), "'b' is in one of the mappings"),
        (lambda: Mix({"a": 1}, at={0: {"a": 1}}), "from 1 up"),
        (lambda: Mix({"a": 1}, at={1: {"a": 1}}, at_rows={1: {"a": 1}}), "either at or at_rows"),
        (lambda: Stream(Mix({"a": 1}), 1), "without sources"),
        (lambda: Stream(Mix({"a": 1}, {"a": "x"}), 1, format="csv"), "of one URL"),
    ],
)
def test_wrong_mixtures(make: Any, words: str) -> None:
    """What is no mixture is an error that says so."""
    with pytest.raises(SpecError, match=words):
        make()


def test_a_mixture_has_no_manifest(mix: Mix) -> None:
    """It has one for each source."""
    stream = Stream(mix, 5, as_="numpy")
    assert list(stream.manifests) == ["web", "code", "few"]
    with pytest.raises(AttributeError, match="manifests"):
        print(stream.manifest)
    assert mix.sources is not None
    assert stream.manifests["web"].id == build(mix.sources["web"]).id


def test_joined() -> None:
    """Parts of each kind are put where their rows belong, nulls too."""
    where = [np.array([0, 3]), np.array([1, 2])]
    values = np.frombuffer(b"abcxyz", np.uint8)
    texts = [
        Ragged(values[:3], np.array([0, 1, 3]), "text"),
        Ragged(values[3:], np.array([0, 0, 3]), "text", np.array([False, True])),
    ]
    assert joined(texts, where).tolist() == ["a", None, "xyz", "bc"]
    assert joined([["a", "b"], ["c", "d"]], where) == ["a", "c", "d", "b"]
    assert joined([pa.array([1, None]), pa.array([3, 4])], where).to_pylist() == [1, 3, 4, None]
    assert joined([np.eye(2), np.ones((2, 2))], where).tolist() == [[1, 0], [1, 1], [1, 1], [0, 1]]


def test_several_sources_take_what_one_does() -> None:
    """Sources that are read together have fewer and smaller lanes and blocks, down to a least."""
    units = [Unit(i, 1000, 16 << 20, 0, 16 << 20) for i in range(100)]
    alone = layout(units)
    both = layout(units, 2)
    assert both[0] * both[1] < alone[0] * alone[1]
    assert layout(units, 100) == (4, 4 << 20)
    small = [Unit(0, 10, 40 << 20, 0, 1)]
    assert layout(small)[0] == 1 < layout(small, 2)[0]
