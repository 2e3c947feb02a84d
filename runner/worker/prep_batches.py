"""Batches in the forms that a transform may ask for, and whatever it returns back as an Arrow table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from runner.data.types import twice
from runner.worker.prep_schema import Unwritable, plain


class WrongReturn(Exception):
    """What a function returned is not a batch; the caller says which function and what is allowed.

    Args:
        found: what was returned.
        todo: what to do about it, if there is something to say.
    """

    def __init__(self, found: str, todo: str = "") -> None:
        super().__init__(found, todo)
        self.found, self.todo = found, todo


BATCHES = "a pyarrow Table or RecordBatch, a pandas DataFrame, a dict of columns, a list of row dicts, or None"


def cut(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of exactly `rows`, the last one shorter. Copies only where a batch spans two."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        while batch.num_rows:
            head = batch.slice(0, rows - count)
            batch = batch.slice(head.num_rows)
            waiting.append(head)
            count += head.num_rows
            if count == rows:
                yield _one(waiting)
                waiting, count = [], 0
    if waiting:
        yield _one(waiting)


def _one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


# -- to the function -------------------------------------------------------------------------------------------------


def to_format(batch: pa.RecordBatch, batch_format: str) -> Any:
    """The batch as the function asked for it: arrow (a RecordBatch), pandas, numpy (dict of arrays) or rows."""
    return _FORMATS[batch_format](batch)


def _to_numpy(batch: pa.RecordBatch) -> dict[str, np.ndarray]:
    return {name: _column_to_numpy(batch.column(i)) for i, name in enumerate(batch.schema.names)}


def _column_to_numpy(column: pa.Array) -> np.ndarray:
    """A writable array of shape [rows, ...]; lists of varying length, strings and bytes have dtype object."""
    kind = column.type
    if isinstance(kind, pa.FixedShapeTensorType):
        return column.to_numpy_ndarray().copy()
    if pa.types.is_fixed_size_list(kind) and not column.null_count:
        inner = column.values.slice(column.offset * kind.list_size, len(column) * kind.list_size)
        if not inner.null_count:
            values = _column_to_numpy(inner)
            return values.reshape(len(column), kind.list_size, *values.shape[1:])
    array = column.to_numpy(zero_copy_only=False)
    return array if array.flags.writeable else array.copy()


_FORMATS: dict[str, Callable[[pa.RecordBatch], Any]] = {
    "arrow": lambda batch: batch,
    "pandas": lambda batch: batch.to_pandas(),
    "numpy": _to_numpy,
    "rows": lambda batch: batch.to_pylist(),
}


# -- from the function -----------------------------------------------------------------------------------------------


def to_table(value: Any) -> pa.Table | None:
    """What a function returned, as a table in plain types; None where it has no rows and no columns.

    Raises:
        WrongReturn: it is not a batch, or its columns do not fit together.
    """
    if value is None:
        return None
    if isinstance(value, pa.RecordBatch):
        table = pa.Table.from_batches([value])
    elif isinstance(value, pa.Table):
        table = value
    elif _is_frame(value):
        table = _from_frame(value)
    elif isinstance(value, Mapping):
        table = _from_columns(value)
    elif isinstance(value, list | tuple):
        if not value:
            return None
        table = _from_rows(list(value))
    else:
        raise WrongReturn(f"a {type(value).__name__}")
    _check_names(table.schema)
    try:
        return plain(table)
    except Unwritable as wrong:
        raise WrongReturn(
            f"column '{wrong.field}' of type {wrong.kind}, which Parquet cannot hold ({wrong.why})",
            "change the column's type, or leave it out",
        ) from None


def _check_names(schema: pa.Schema) -> None:
    if not schema.names:
        raise WrongReturn("a batch without columns", "return None where there are no rows")
    if (name := twice(schema)) is not None:
        what = "columns" if name in schema.names else "fields of a struct"
        raise WrongReturn(f"two {what} named '{name}'", "rename one of them")


def _is_frame(value: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame)


def _from_frame(frame: Any) -> pa.Table:
    odd = [name for name in frame.columns if not isinstance(name, str)]
    if odd:
        raise WrongReturn(f"a DataFrame with the column name {odd[0]!r}", "give every column a string as its name")
    columns = [_array(name, frame.iloc[:, i]) for i, name in enumerate(frame.columns)]
    return pa.Table.from_arrays(columns, names=list(frame.columns))


def _from_columns(columns: Mapping[Any, Any]) -> pa.Table:
    if not columns:
        raise WrongReturn("a batch without columns", "return None where there are no rows")
    for name in columns:
        if not isinstance(name, str):
            raise WrongReturn(f"the column name {name!r}", "give every column a string as its name")
    arrays = {name: _array(name, values) for name, values in columns.items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"'{name}' has {rows}" for name, rows in lengths.items())
        raise WrongReturn(f"columns of different lengths: {shown}", "give every column a value for every row")
    return pa.table(arrays)


def _from_rows(rows: list[Any]) -> pa.Table:
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise WrongReturn(f"a list whose item {number} is a {type(row).__name__}", "return a list of dicts")
        if row.keys() != rows[0].keys():
            missing = sorted(str(key) for key in rows[0].keys() ^ row.keys())
            raise WrongReturn(
                f"rows with different keys: '{missing[0]}' is in one of rows 0 and {number} only",
                "give every row the same keys, with None where there is no value",
            )
    return _from_columns({name: [row[name] for row in rows] for name in rows[0]})


def _array(name: str, values: Any) -> pa.Array:
    """One column. Arrays of more dimensions become fixed-size lists, one level a dimension."""
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    if isinstance(values, pa.Array):
        return values
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise WrongReturn(f"column '{name}' is a {type(values).__name__}", "give a list or an array")
    try:
        if not isinstance(values, list | tuple | np.ndarray) and not _is_series(values):
            values = np.asarray(values)  # a tensor
        if isinstance(values, np.ndarray) and values.ndim > 1:
            return _from_ndarray(values)
        if isinstance(values, np.ndarray) and values.ndim == 0:
            raise WrongReturn(f"column '{name}' is one number", "give a list or an array")
        if isinstance(values, list | tuple) and values and isinstance(values[0], np.ndarray) and values[0].ndim > 1:
            return _from_ndarray(np.stack(values))
        return _whole(pa.array(values, from_pandas=_is_series(values) or None))
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise WrongReturn(f"column '{name}': {error}", "give values of one type") from error


def _is_series(values: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(values, pandas.Series | pandas.Index)


def _whole(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _from_ndarray(values: np.ndarray) -> pa.Array:
    array = pa.array(np.ascontiguousarray(values).reshape(-1))
    for size in reversed(values.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


# -- masks -----------------------------------------------------------------------------------------------------------


def to_mask(value: Any, rows: int) -> np.ndarray:
    """What `keep` returned, as bool [rows].

    Raises:
        WrongReturn: it is not one boolean per row.
    """
    if isinstance(value, pa.Array | pa.ChunkedArray):
        if value.null_count:
            raise WrongReturn(f"a mask with {value.null_count} missing values", "use fill_null(False)")
        value = value.to_numpy() if isinstance(value, pa.ChunkedArray) else value.to_numpy(zero_copy_only=False)
    mask = np.asarray(value) if hasattr(value, "__len__") or hasattr(value, "__array__") else value
    if not isinstance(mask, np.ndarray) or mask.ndim != 1:
        raise WrongReturn(f"a {type(value).__name__}", "return one boolean per row")
    if mask.size and mask.dtype == object and all(isinstance(item, bool | np.bool_) for item in mask):
        mask = mask.astype(bool)
    if mask.size and mask.dtype != bool:
        raise WrongReturn(f"values of type {mask.dtype}", "return one boolean per row, without missing values")
    if len(mask) != rows:
        raise WrongReturn(f"{len(mask)} values for {rows} rows", "return one boolean per row")
    return mask.astype(bool)
