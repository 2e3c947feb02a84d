"""Filters: which rows of a unit are kept."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from runner.data.formats.columns import check_columns
from runner.data.manifest import Manifest
from runner.data.shards import Unit
from runner.data.stream.dense import dense
from runner.data.stream.views import statistics
from runner.data.stream.views.viewed import Counted
from runner.errors import DataError, RunnerError, SpecError

Mask: TypeAlias = NDArray[np.bool_]
#: An expression, or a function of a record batch; also with the columns that it looks at.
Filter: TypeAlias = Any

#: The mark of a unit of which every row is kept.
ALL = "all"


class Filtered:
    """The rows of which a filter says True; null is not.

    Args:
        keep: a `pyarrow.compute.Expression`, or a pure function of a RecordBatch that gives a boolean for each row; or
            a pair of it and the names of the columns that it looks at.
        source: whose rows they are.

    Raises:
        SpecError: it is no filter.
        DataError: it asks for what is not there.
    """

    def __init__(self, keep: Filter, source: Manifest) -> None:
        self._keep, looks_at = split(keep)
        self.schema, where = source.schema, source.base
        if looks_at is not None:
            check_columns(looks_at, source.schema.names, where=where)
        if isinstance(self._keep, pc.Expression):
            asked = source.schema if looks_at is None else pa.schema([source.schema.field(name) for name in looks_at])
            self.columns = _looked_at(self._keep, asked, where)
        else:
            self.columns = tuple(looks_at or source.schema.names)

    def key(self) -> str | None:
        if not isinstance(self._keep, pc.Expression):
            return None
        _, (data,) = self._keep.__reduce__()
        content = hashlib.sha256(bytes(memoryview(data))).hexdigest()
        return f"filter 1, pyarrow {pa.__version__}: {content} of {list(self.columns)}"

    def said(self) -> Any:
        return "filter"

    def needs(self, columns: Sequence[str]) -> list[str]:
        return list(dict.fromkeys([*columns, *self.columns]))

    def unit_bytes(self, unit: Unit, rows: int) -> int:
        return unit.bytes * rows // max(unit.rows, 1)

    def counter(self, source: Manifest) -> Callable[[int, int], Counted]:
        decided: Mapping[tuple[int, int], bool] = self._decided(source)

        def count(shard: int, place: int) -> Counted:
            known = decided.get((shard, place))
            if known is not None:
                return Counted(source.shards[shard].units[place].rows, ALL) if known else Counted(0, "")
            marks = _Marks()
            for batch in source.read(shard, [place], self.columns):
                marks.add(self.mask(batch))
            return marks.done()

        return count

    def rows(self, batches: Iterator[pa.RecordBatch], columns: Sequence[str]) -> Iterator[pa.RecordBatch | Counted]:
        marks = _Marks()
        for batch in batches:
            mask = self.mask(batch.select(self.columns))
            marks.add(mask)
            if mask.any():
                kept = batch.select(list(columns))
                yield kept if mask.all() else kept.filter(_bits(mask))
        yield marks.done()

    def mask(self, batch: pa.RecordBatch) -> Mask:
        """Which rows of a batch of `columns` are kept: bool [rows]. Raises DataError for an answer that is none."""
        how = _evaluated if isinstance(self._keep, pc.Expression) else _called
        try:
            found = how(self._keep, batch)
        except (RunnerError, MemoryError):
            raise
        except Exception as error:  # a function may raise whatever it likes
            raise DataError(
                f"the filter raised {type(error).__name__}: {' '.join(str(error).split())}"[:500],
                allowed="a boolean for each row",
                todo="check filter=; the function is given a pyarrow.RecordBatch of one row or more",
            ) from error
        return _booleans(found, batch.num_rows)

    def _decided(self, source: Manifest) -> dict[tuple[int, int], bool]:
        """Units whose rows are all kept, or none, without a look at them."""
        found = statistics.by_folder(source, self.columns, self.mask)
        if isinstance(self._keep, pc.Expression):
            found.update(statistics.by_footer(source, self._keep, self.columns))
        return found


def split(keep: Filter) -> tuple[Any, tuple[str, ...] | None]:
    """A filter, and the columns that it is said to look at. Raises SpecError for what is none."""
    looks_at = None
    if isinstance(keep, tuple) and len(keep) == 2 and not isinstance(keep[1], str):
        keep, looks_at = keep[0], tuple(keep[1])
    if not isinstance(keep, pc.Expression) and not callable(keep):
        raise SpecError(
            f"filter={keep!r}",
            allowed="an expression such as pyarrow.compute.field('lang') == 'en', a function of a RecordBatch, or a "
            "pair of either and a list of the columns that it looks at: (function, ['lang'])",
            where="Stream",
        )
    if isinstance(keep, pc.Expression) and "FieldPath(" in str(keep):
        raise SpecError("a filter of columns by number", allowed="columns by name", where="Stream")
    return keep, looks_at


class _Marks:
    """Counts the rows that are kept of a unit, and hashes which."""

    def __init__(self) -> None:
        self._digest, self._kept, self._seen = hashlib.blake2b(digest_size=8), 0, 0

    def add(self, mask: Mask) -> None:
        self._digest.update(mask.data)
        self._kept += int(np.count_nonzero(mask))
        self._seen += len(mask)

    def done(self) -> Counted:
        if self._kept == self._seen:
            return Counted(self._kept, ALL)
        return Counted(self._kept, self._digest.hexdigest() if self._kept else "")


def _looked_at(keep: pc.Expression, schema: pa.Schema, where: str) -> tuple[str, ...]:
    """The columns without which an expression has no meaning, found by halves; of one without columns any.

    Raises:
        DataError: it has no meaning at all.
    """
    _bound(keep, schema, where)
    names, part = list(schema.names), max(1, len(schema) // 2)
    while True:
        at = 0
        while at < len(names):
            rest = names[:at] + names[at + part :]
            if _binds(keep, [schema.field(name) for name in rest]):
                names = rest
            else:
                at += part
        if part == 1:
            return tuple(names or schema.names[:1])
        part = math.ceil(part / 2)


def _bound(keep: pc.Expression, schema: pa.Schema, where: str) -> None:
    try:
        kind = _evaluated(keep, schema.empty_table()).type
    except (pa.ArrowException, ValueError) as error:
        raise DataError(
            f"a filter that cannot be used: {' '.join(str(error).split())}"[:500],
            allowed="an expression of the data's columns and their types",
            todo="check filter=; the types are those of Stream(...).manifest.schema",
            where=where,
        ) from error
    if not pa.types.is_boolean(kind):
        raise DataError(f"a filter of type {kind}", allowed="True or False for each row", where=where)


def _binds(keep: pc.Expression, fields: Sequence[pa.Field]) -> bool:
    try:
        _evaluated(keep, pa.schema(fields).empty_table())
    except (pa.ArrowException, ValueError):
        return False
    return True


def _evaluated(keep: pc.Expression, rows: pa.RecordBatch | pa.Table) -> pa.ChunkedArray:
    from pyarrow import acero

    table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
    source = acero.Declaration("table_source", acero.TableSourceNodeOptions(table))
    project = acero.Declaration("project", acero.ProjectNodeOptions([keep], ["keep"]))
    return acero.Declaration.from_sequence([source, project]).to_table(use_threads=False).column(0)


def _called(keep: Callable[[pa.RecordBatch], Any], batch: pa.RecordBatch) -> Any:
    return keep(batch)


def _booleans(found: Any, rows: int) -> Mask:
    if isinstance(found, pa.ChunkedArray):
        chunks = [_booleans(chunk, len(chunk)) for chunk in found.chunks]
        mask = chunks[0] if len(chunks) == 1 else np.concatenate([np.zeros(0, bool), *chunks])
    elif isinstance(found, pa.BooleanArray):
        mask = dense(_bits_of(found)) & dense(found.is_valid()) if found.null_count else dense(found)
    elif isinstance(found, np.ndarray) and found.dtype == bool and found.ndim == 1:
        mask = np.ascontiguousarray(found)
    elif (array := _as_arrow(found)) is not None:
        return _booleans(array, rows)
    else:
        raise DataError(
            f"a filter that gives {type(found).__name__}",
            allowed="an Arrow array of booleans, numpy's, pandas' or a list of them, one for each row",
            todo="check filter=",
        )
    if len(mask) != rows:
        raise DataError(f"a filter that gives {len(mask)} booleans for {rows} rows", allowed="one for each row")
    return mask


def _as_arrow(found: Any) -> pa.BooleanArray | None:
    """A list, or a column of pandas, as an Arrow array; None of what holds anything besides booleans and nulls."""
    if isinstance(found, np.ndarray | pa.Array) or not (isinstance(found, list | tuple) or hasattr(found, "__array__")):
        return None
    try:
        array = pa.array(found)
    except (pa.ArrowException, TypeError, ValueError):
        return None
    array = array.cast(pa.bool_()) if isinstance(array, pa.NullArray) else array
    return array if isinstance(array, pa.BooleanArray) else None


def _bits_of(array: pa.BooleanArray) -> pa.Array:
    """The bits of booleans, whatever is null."""
    return pa.Array.from_buffers(pa.bool_(), len(array), [None, array.buffers()[1]], offset=array.offset)


def _bits(mask: Mask) -> pa.Array:
    """As an Arrow array, made without pandas."""
    packed = np.packbits(mask, bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(mask), [None, pa.py_buffer(packed)])
