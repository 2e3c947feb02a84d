"""How a stage is cut into tasks, and what gathers the rows of one."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from runner.data.manifest import Manifest, Shard, Unit
from runner.data.schemas import Drift
from runner.errors import DataError, RunFailed
from runner.prep.files import Gather
from runner.prep.ray_data import _TotalOrder
from runner.prep.tasks import PACK_BYTES, PACK_FROM, TASK_BYTES, plan_tasks

MIB = 1 << 20


def shard(path: str, *unit_bytes: int, format: str = "parquet", etag: str = "md5:x") -> Shard:
    units = tuple(Unit(i, 10, size, i * 100, 100) for i, size in enumerate(unit_bytes))
    return Shard(path, sum(unit_bytes), etag, format, units)


def manifest(*shards: Shard) -> Manifest:
    return Manifest.of("/data", shards, pa.schema([("x", pa.int64())]))


def units_of(*shards: Shard) -> list[tuple[str, tuple[int, ...]]]:
    return [(task.parts[0].shard.path, task.parts[0].units) for task in plan_tasks(manifest(*shards), "code")]


def test_units_are_grouped_but_never_across_shards() -> None:
    """Consecutive units share a task up to its size; a larger unit is one alone; each shard begins a new one."""
    big = shard("a", 30 * MIB, 30 * MIB, 30 * MIB, TASK_BYTES + 1, MIB)
    assert units_of(big, shard("b", MIB), shard("c", MIB)) == [
        ("a", (0, 1)),
        ("a", (2,)),
        ("a", (3,)),
        ("a", (4,)),
        ("b", (0,)),
        ("c", (0,)),
    ]


def test_a_shard_without_units_is_no_task() -> None:
    """An empty file costs nothing."""
    assert units_of(shard("a"), shard("b", MIB)) == [("b", (0,))]


def test_keys_depend_on_the_shard_and_the_code_alone() -> None:
    """Another shard beside it changes no key; its content, its name and the stage's code do."""

    def keys(code: str, *shards: Shard) -> list[str]:
        return [task.key for task in plan_tasks(manifest(*shards), code)]

    (key,) = keys("code", shard("b", MIB))
    assert keys("code", shard("a", MIB), shard("b", MIB), shard("c", MIB))[1] == key
    assert keys("code", shard("b", MIB, etag="md5:y")) != [key]
    assert keys("code", shard("c", MIB)) != [key]
    assert keys("other", shard("b", MIB)) != [key]


@pytest.mark.parametrize("size", [1_000, 100_000, PACK_BYTES])
def test_a_new_whole_file_changes_one_group(size: int) -> None:
    """Of many small files in shared tasks, one more changes the tasks around it, at most two, and no others."""
    files = [shard(f"f{i:05d}", size, format="files") for i in range(2000)]
    before = {task.key for task in plan_tasks(manifest(*files), "code")}
    after = {task.key for task in plan_tasks(manifest(*files, shard("f01000a", size, format="files")), "code")}
    assert len(before) < 2000 or size == PACK_BYTES
    assert 1 <= len(after - before) <= 2


def test_many_small_shards_share_tasks() -> None:
    """Of 20,000 small files the tasks are some hundred; all units are in them in order, and one more file changes at
    most two tasks.
    """
    files = [shard(f"f{i:05d}", 200, format="parquet") for i in range(20_000)]
    before = plan_tasks(manifest(*files), "code")
    assert 20 < len(before) < 400
    assert [part.shard.path for task in before for part in task.parts] == [file.path for file in files]
    after = plan_tasks(manifest(*files[:9000], shard("f08999a", 200), *files[9000:]), "code")
    assert 1 <= len({task.key for task in after} - {task.key for task in before}) <= 2


def test_a_few_shards_and_large_ones_have_tasks_of_their_own() -> None:
    """Up to a number of shards each is a task however small, and among many small ones a large one is cut as always."""
    few = [shard(f"f{i:03d}", 200) for i in range(PACK_FROM)]
    assert len(plan_tasks(manifest(*few), "code")) == PACK_FROM
    many = [*few, shard("m", 40 * MIB, 40 * MIB), *(shard(f"n{i:03d}", 200) for i in range(PACK_FROM))]
    own = [task for task in plan_tasks(manifest(*many), "code") if task.parts[0].shard.path == "m"]
    assert [[part.units for part in task.parts] for task in own] == [[(0,)], [(1,)]]


def test_a_gather_widens_what_it_has() -> None:
    """Nulls first and numbers later become one column of numbers, in order; text after numbers is drift."""
    gather = Gather()
    tables = [pa.table({"v": values}) for values in (pa.nulls(2), pa.array([1], pa.int8()), pa.array([2], pa.int64()))]
    pieces = [piece for table in tables for piece in gather.add(table)]
    pieces += list(gather.rest())
    assert len(pieces) == 1
    assert pieces[0].column("v").to_pylist() == [None, None, 1, 2]
    assert pieces[0].schema.field("v").type == pa.int64()
    with pytest.raises(Drift):
        list(gather.add(pa.table({"v": ["text"]})))


def test_an_empty_batch_says_nothing_about_types() -> None:
    """A batch without rows does not fix the schema."""
    gather = Gather()
    assert list(gather.add(pa.table({"v": pa.array([], pa.string())}))) == []
    assert list(gather.add(pa.table({"v": [1]}))) == []
    assert next(gather.rest()).column("v").to_pylist() == [1]


# -- the total order of whole-dataset transforms ---------------------------------------------------------------------


def check(*tables: dict[str, Any]) -> None:
    order = _TotalOrder(["a", "b"], "out", "Prep 'p'")
    for table in tables:
        order.check(pa.table(table))


def test_strictly_rising_keys_pass() -> None:
    """The second key decides where the first is equal, over the border of tables too; truth values have an order."""
    check({"a": ["x", "x"], "b": [1, 2]}, {"a": [], "b": []}, {"a": ["x", "y"], "b": [3, 0]})
    check({"a": [False, True], "b": [1, 1]})


@pytest.mark.parametrize(
    ("tables", "error", "message"),
    [
        ([{"a": [1, 1], "b": ["x", "x"]}], DataError, r"same sort_by key: a=1, b='x'"),
        ([{"a": [1], "b": [2]}, {"a": [1], "b": [2]}], DataError, r"same sort_by key: a=1, b=2"),
        ([{"a": [1, None], "b": [1, 2]}], DataError, "'a' of 'out' has missing values"),
        ([{"a": [1.0, float("nan")], "b": [1, 2]}], DataError, "'a' of 'out' has missing values"),
        ([{"a": [2, 1], "b": [1, 1]}], RunFailed, "out of order"),
        ([{"a": [2], "b": [1]}, {"a": [1], "b": [1]}], RunFailed, "out of order"),
    ],
)
def test_ties_gaps_and_disorder_are_said(tables: list[dict[str, Any]], error: Any, message: str) -> None:
    """Equal keys, missing keys and rows out of order are errors, within a table and between two."""
    with pytest.raises(error, match=message):
        check(*tables)
