"""Batches to and from the forms of the user's functions, and schemas made one."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from runner.data.schemas import Drift, conform, plain, unify
from runner.prep.batches import WrongReturn, cut, to_format, to_mask, to_table
from runner.prep.files import slug

BATCH = pa.record_batch(
    {
        "i": [1, 2, 3],
        "n": pa.array([1, None, 3]),
        "s": ["a", "b", None],
        "l": [[1.0], [], [2.0, 3.0]],
        "m": pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(pa.array(range(12)), 2), 2),
    }
)


@pytest.mark.parametrize("sizes", [[10], [3, 7], [1] * 10, [0, 4, 0, 6]])
def test_cut_gives_exact_batches(sizes: list[int]) -> None:
    """However the input is divided, batches have the asked size and the rows stay in order."""
    whole = pa.record_batch({"x": range(10)})
    starts = np.cumsum([0, *sizes])
    batches = [whole.slice(int(a), n) for a, n in zip(starts[:-1], sizes, strict=True)]
    out = list(cut(iter(batches), 4))
    assert [batch.num_rows for batch in out] == [4, 4, 2]
    assert [x for batch in out for x in batch.column("x").to_pylist()] == list(range(10))


@pytest.mark.parametrize("form", ["arrow", "pandas", "numpy", "rows"])
def test_a_batch_goes_to_every_form_and_back(form: str) -> None:
    """A function that returns what it is given changes no value."""
    table = to_table(to_format(BATCH, form))
    assert table is not None
    back = table.to_pylist()
    for name in ("i", "s", "l", "m"):
        assert [row[name] for row in back] == BATCH.column(name).to_pylist()
    assert [None if x is None or x != x else int(x) for x in (row["n"] for row in back)] == [1, None, 3]


def test_numpy_batches_have_shapes_and_can_be_written() -> None:
    """Fixed-size lists are arrays of their shape, and no column is read-only."""
    batch = to_format(BATCH, "numpy")
    assert batch["m"].shape == (3, 2, 2)
    for name in ("i", "m"):
        batch[name][0] = 0


def test_arrays_of_more_dimensions_become_fixed_size_lists() -> None:
    """An image batch [2, 3, 4] becomes nested lists of sizes 3 and 4 and comes back with its shape."""
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    table = to_table({"image": images})
    assert table is not None
    assert table.schema.field("image").type == pa.list_(pa.list_(pa.uint8(), 4), 3)
    assert (to_format(table.to_batches()[0], "numpy")["image"] == images).all()


@pytest.mark.parametrize(
    ("column", "rows"),
    [
        (np.ma.masked_array([[1, 2], [3, 4]], mask=[[0, 1], [0, 0]]), [[1, None], [3, 4]]),
        ([np.ma.masked_array([1.5, 2], mask=[0, 1]), np.array([3.0])], [[1.5, None], [3.0]]),
        ([np.ma.masked_array([[1, 2]], mask=[[1, 0]])] * 2, [[[None, 2]]] * 2),
        (np.ma.masked_array([b"a", b"b"], mask=[1, 0]), [None, b"b"]),
    ],
)
def test_what_is_masked_is_null(column: Any, rows: list[Any]) -> None:
    """In every dimension, and in the arrays of a list: what lies below a mask is no value."""
    table = to_table({"a": column})
    assert table is not None
    assert table["a"].to_pylist() == rows


@pytest.mark.parametrize(
    ("column", "rows"),
    [
        (np.array([1, -2], ">i4"), [1, -2]),
        (np.array([[0.5], [2]], ">f8"), [[0.5], [2.0]]),
        (np.array(["2020", "NaT"], "M8[Y]"), [dt.date(2020, 1, 1), None]),
        (np.array(["2020-02"], "M8[M]"), [dt.date(2020, 2, 1)]),
        (np.array(["2020-02-03T04:05"], "M8[m]"), [dt.datetime(2020, 2, 3, 4, 5)]),
        (np.array([2], "m8[h]"), [dt.timedelta(hours=2)]),
        (np.array([3], "m8[15s]"), [dt.timedelta(seconds=45)]),
    ],
)
def test_arrays_that_arrow_has_not_come_as_those_that_hold_their_values(column: Any, rows: list[Any]) -> None:
    """The other byte order, and units of times that Arrow has not."""
    table = to_table({"a": column})
    assert table is not None
    assert table["a"].to_pylist() == rows


class Odd:
    """A tensor that gives no array."""

    def __len__(self) -> int:
        return 1

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("call detach() first")


def test_pandas_leaves_no_trace() -> None:
    """Index, categories and metadata of a DataFrame are not written."""
    frame = pd.DataFrame({"c": pd.Categorical(["x", "y", "x"]), "t": ["a", "b", None]}, index=[5, 6, 7])
    table = to_table(frame)
    assert table is not None
    assert table.schema == pa.schema([("c", pa.string()), ("t", pa.string())])
    assert table.schema.metadata is None
    assert table.column("t").to_pylist() == ["a", "b", None]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, "a int"),
        ("text", "a str"),
        ({}, "without columns"),
        ({"a": 3}, "column 'a' is a int"),
        ({"a": "word"}, "column 'a' is a str"),
        ({1: [1]}, "column name 1"),
        ({"a": [1, "x"]}, "column 'a': "),
        ({"a": Odd()}, "column 'a', a Odd that is no array of numpy (RuntimeError: call detach() first)"),
        ({"a": {1, 2}}, "column 'a' is a set"),
        ({"a": np.array([2**62], "M8[Y]")}, "column 'a': a time of datetime64[Y] that datetime64[D] cannot hold"),
        ({"a": [1], "b": []}, "different lengths: 'a' has 1, 'b' has 0"),
        ([{"a": 1}, 5], "item 1 is a int"),
        ([{"a": 1}, {"a": 1, "b": 2}], "'b' is in one of rows 0 and 1 only"),
        (pd.DataFrame({0: [1]}), "column name 0"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns named 'a'"),
        (pa.Table.from_arrays([pa.array([1]), pa.array([1])], names=["a", "a"]), "two columns named 'a'"),
    ],
)
def test_what_is_no_batch_is_said(value: Any, message: str) -> None:
    """Each wrong return says what was found."""
    with pytest.raises(WrongReturn) as caught:
        to_table(value)
    assert message in caught.value.found


@pytest.mark.parametrize(
    "mask", [[True, False], np.array([True, False]), pa.array([True, False]), pd.Series([True, False]), (True, False)]
)
def test_masks_may_have_any_form(mask: Any) -> None:
    """Lists, arrays and series of booleans are masks."""
    assert to_mask(mask, 2).tolist() == [True, False]


@pytest.mark.parametrize(
    "mask",
    [
        np.ma.masked_array([True, False], [True, False]),
        [1, 0],
        [True],
        True,
        pa.array([True, None]),
        "no",
        np.ones((2, 2), bool),
        None,
    ],
)
def test_what_is_no_mask_is_said(mask: Any) -> None:
    """Numbers, wrong lengths, missing values and single booleans are not masks."""
    with pytest.raises(WrongReturn):
        to_mask(mask, 2)


def test_plain_types_do_not_depend_on_the_batch() -> None:
    """Dictionaries, views, large strings and metadata are reduced to one form."""
    table = pa.table(
        {
            "d": pa.array(["a", "b"]).dictionary_encode(),
            "v": pa.array(["a", "b"], pa.string_view()),
            "l": pa.array([["a"], []], pa.large_list(pa.large_string())),
        }
    ).replace_schema_metadata({"pandas": "x"})
    assert plain(table).schema == pa.schema([("d", pa.string()), ("v", pa.string()), ("l", pa.list_(pa.string()))])
    assert plain(table).schema.metadata is None


@pytest.mark.parametrize(
    ("left", "right", "both"),
    [
        (pa.null(), pa.string(), pa.string()),
        (pa.int8(), pa.int32(), pa.int32()),
        (pa.uint8(), pa.uint16(), pa.uint16()),
        (pa.float32(), pa.float64(), pa.float64()),
        (pa.int64(), pa.float32(), pa.float64()),
        (pa.timestamp("s"), pa.timestamp("us"), pa.timestamp("us")),
        (pa.list_(pa.null()), pa.list_(pa.int8()), pa.list_(pa.int8())),
        (pa.struct([("a", pa.int8())]), pa.struct([("a", pa.int64())]), pa.struct([("a", pa.int64())])),
    ],
)
def test_harmless_differences_widen(left: pa.DataType, right: pa.DataType, both: pa.DataType) -> None:
    """Either order of two types that lose nothing gives the wider one."""
    for a, b in ((left, right), (right, left)):
        assert unify(pa.schema([("x", a)]), pa.schema([("x", b)])).field("x").type == both


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (pa.int64(), pa.string()),
        (pa.int8(), pa.uint8()),
        (pa.bool_(), pa.int8()),
        (pa.string(), pa.binary()),
        (pa.list_(pa.int8(), 2), pa.list_(pa.int8(), 3)),
        (pa.timestamp("s", "UTC"), pa.timestamp("s")),
        (pa.struct([("a", pa.int8())]), pa.struct([("b", pa.int8())])),
    ],
)
def test_other_differences_are_drift(left: pa.DataType, right: pa.DataType) -> None:
    """Types that could change a value are not made one."""
    with pytest.raises(Drift):
        unify(pa.schema([("x", left)]), pa.schema([("x", right)]))


def test_missing_columns_are_drift_and_order_is_not() -> None:
    """A column that one batch lacks is named; another order of columns is brought to the first."""
    a, b = pa.schema([("x", pa.int8()), ("y", pa.int8())]), pa.schema([("y", pa.int8()), ("x", pa.int8())])
    assert unify(a, b).names == ["x", "y"]
    for left, right in ((a, pa.schema([("x", pa.int8())])), (pa.schema([("x", pa.int8())]), a)):
        with pytest.raises(Drift) as caught:
            unify(left, right)
        assert caught.value.field == "y"


def test_whole_numbers_become_fractions_only_if_exact() -> None:
    """A number that float64 cannot hold is drift, not a rounded value."""
    target = pa.schema([("x", pa.float64())])
    assert conform(pa.table({"x": [2**53]}), target).column("x").to_pylist() == [2.0**53]
    with pytest.raises(Drift):
        conform(pa.table({"x": [2**53 + 1]}), target)


def test_output_names_sort_as_their_inputs() -> None:
    """The beginnings of file names keep the order of shard paths, and are legible."""
    paths = ["part-0.parquet", "part-1.parquet", "part-10.parquet", "year=2012/a.parquet", "year=2013/a.parquet"]
    slugs = [slug(path) + "-00000" for path in paths]
    assert slugs == sorted(slugs)
    assert slug("year=2012/a b.json.gz") == "year=2012_a_b"
