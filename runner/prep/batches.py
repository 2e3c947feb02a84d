"""Batches in the forms that a transform may ask for, and whatever it returns back as an Arrow table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from runner.data.limits import beyond, shown_bytes
from runner.data.schemas import Unwritable, plain
from runner.data.values.types import size_of, twice
from runner.prep.forms import columns_of, to_numpy, to_pandas, to_rows
from runner.prep.returns import is_series, to_column


class WrongReturn(Exception):
    """What a function returned is not a batch; the caller says which function and what is allowed.

    Args:
        found: what was returned.
        todo: what to do about it, if there is something to say.
    """

    def __init__(self, found: str, todo: str = "") -> None:
        super().__init__(found, todo)
        self.found, self.todo = found, todo


#: Column -> type in the input.
Hints: TypeAlias = Mapping[str, pa.DataType]

BATCHES = "a pyarrow Table or RecordBatch, a pandas DataFrame, a dict of columns, a list of row dicts, or None"


def cut(
    batches: Iterator[pa.RecordBatch], rows: int, most_bytes: int | None = None, where: str = ""
) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of exactly `rows`, the last one shorter. Copies only where a batch spans two.

    Args:
        most_bytes: of a batch.
        where: they come from, for errors.

    Raises:
        DataError: a batch of so many rows would be larger.
    """
    waiting: list[pa.RecordBatch] = []
    count = size = 0
    for batch in batches:
        while batch.num_rows:
            head = batch.slice(0, rows - count)
            batch = batch.slice(head.num_rows)
            waiting.append(head)
            count += head.num_rows
            size += size_of(head) if most_bytes is not None else 0
            if most_bytes is not None and size > most_bytes:
                raise beyond("at_once_bytes", f"a batch of {shown_bytes(size)} or more, of {count} rows", where)
            if count == rows:
                yield _one(waiting)
                waiting, count, size = [], 0, 0
    if waiting:
        yield _one(waiting)


def _one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


# -- to the function -------------------------------------------------------------------------------------------------


def to_format(batch: pa.RecordBatch, batch_format: str) -> Any:
    """The batch as the function asked for it: arrow (a RecordBatch), pandas, numpy (dict of arrays) or rows.

    Raises:
        Uncarried: a value has no place in that form.
    """
    return _FORMATS[batch_format](batch)


_FORMATS: dict[str, Callable[[pa.RecordBatch], Any]] = {
    "arrow": lambda batch: batch,
    "pandas": to_pandas,
    "numpy": lambda batch: dict(columns_of(batch, to_numpy)),
    "rows": to_rows,
}


# -- from the function -----------------------------------------------------------------------------------------------


def to_table(value: Any, given: pa.Schema | None = None) -> pa.Table | None:
    """What a function returned, as a table in the types that are written; None where it has no rows and no columns.

    Args:
        given: the schema of its input; a column of the same name gets the same type where its values have it.

    Raises:
        WrongReturn: it is not a batch, or its columns do not fit together.
    """
    hints = {} if given is None else {field.name: field.type for field in given}
    if value is None:
        return None
    if isinstance(value, pa.RecordBatch):
        table = pa.Table.from_batches([value])
    elif isinstance(value, pa.Table):
        table = value
    elif _is_frame(value):
        table = _from_frame(value, hints)
    elif isinstance(value, Mapping):
        table = _from_columns(value, hints)
    elif isinstance(value, list | tuple):
        if not value:
            return None
        table = _from_rows(list(value), hints)
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


def _from_frame(frame: Any, hints: Hints) -> pa.Table:
    odd = [name for name in frame.columns if not isinstance(name, str)]
    if odd:
        raise WrongReturn(f"a DataFrame with the column name {odd[0]!r}", "give every column a string as its name")
    columns = [_array(name, frame.iloc[:, i], hints) for i, name in enumerate(frame.columns)]
    return pa.Table.from_arrays(columns, names=list(frame.columns))


def _from_columns(columns: Mapping[Any, Any], hints: Hints) -> pa.Table:
    if not columns:
        raise WrongReturn("a batch without columns", "return None where there are no rows")
    for name in columns:
        if not isinstance(name, str):
            raise WrongReturn(f"the column name {name!r}", "give every column a string as its name")
    arrays = {name: _array(name, values, hints) for name, values in columns.items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"'{name}' has {rows}" for name, rows in lengths.items())
        raise WrongReturn(f"columns of different lengths: {shown}", "give every column a value for every row")
    return pa.table(arrays)


def _from_rows(rows: list[Any], hints: Hints) -> pa.Table:
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise WrongReturn(f"a list whose item {number} is a {type(row).__name__}", "return a list of dicts")
        if row.keys() != rows[0].keys():
            missing = sorted(str(key) for key in rows[0].keys() ^ row.keys())
            raise WrongReturn(
                f"rows with different keys: '{missing[0]}' is in one of rows 0 and {number} only",
                "give every row the same keys, with None where there is no value",
            )
    return _from_columns({name: [row[name] for row in rows] for name in rows[0]}, hints)


def _array(name: str, values: Any, hints: Hints) -> pa.Array:
    """One column. Arrays of more dimensions become fixed-size lists, one level a dimension."""
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    if isinstance(values, pa.Array):
        return values
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise WrongReturn(f"column '{name}' is a {type(values).__name__}", "give a list or an array")
    try:
        if isinstance(values, tuple):
            values = list(values)
        if not isinstance(values, list | np.ndarray) and not is_series(values):
            values = _as_array(name, values)
        if isinstance(values, np.ndarray) and values.ndim == 0:
            raise WrongReturn(f"column '{name}' is one number", "give a list or an array")
        return to_column(values, hints.get(name))
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise WrongReturn(f"column '{name}': {error}", "give values of one type") from error


def _as_array(name: str, values: Any) -> np.ndarray:
    """A tensor, or an array of pandas."""
    try:
        array = np.asarray(values)
    except Exception as error:  # each library has its own kinds
        found = (
            f"column '{name}', a {type(values).__name__} that is no array of numpy ({type(error).__name__}: {error})"
        )
        raise WrongReturn(found, "give a list or an array") from error
    if array.ndim == 0 and array.dtype == object:
        raise WrongReturn(f"column '{name}' is a {type(values).__name__}", "give a list or an array")
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
    if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        raise WrongReturn("a mask with missing values", "use filled(False)")
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
