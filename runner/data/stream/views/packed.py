"""Packing: the documents of a unit as rows of one length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from runner.data.formats.columns import check_columns
from runner.data.manifest import Manifest
from runner.data.shards import Unit
from runner.data.stream.dense import dense, layout_of, numbers
from runner.data.stream.views import runs, statistics
from runner.data.stream.views.filters import ALL, Filtered
from runner.data.stream.views.viewed import Counted, Viewed
from runner.errors import DataError
from runner.spec.packing import Pack

Ints = NDArray[np.int64]


class Packed:
    """Rows of exactly so many tokens.

    Args:
        pack: what is packed, and how.
        source: whose rows are the documents.

    Raises:
        DataError: a column is not there, or is no list of numbers; or its type has no place for what is filled in.
    """

    def __init__(self, pack: Pack, source: Manifest) -> None:
        check_columns(pack.columns, source.schema.names, where=source.base)
        self._pack, self._length = pack, pack.length
        self._items = {name: _item(name, source.schema.field(name).type, source.base) for name in pack.columns}
        self._fill = {name: _token(pack.fill[name], kind, source.base) for name, kind in self._items.items()}
        self._separator: dict[str, NDArray[Any]] | None = None
        if pack.separator is not None:
            self._separator = {n: _token(pack.separator[n], kind, source.base) for n, kind in self._items.items()}
        fields = [pa.field(name, self._kind(name), nullable=False) for name in pack.columns]
        fields.append(runs.field(pack.document, runs.DOCUMENT, pack.length))
        fields.append(runs.field(pack.position, runs.POSITION, pack.length))
        self.schema = pa.schema(fields)

    def _kind(self, name: str) -> pa.DataType:
        return pa.list_(pa.field("element", self._items[name], nullable=False), self._length)

    def key(self) -> str | None:
        return f"pack 1: {self.said()}"

    def said(self) -> Any:
        return {"pack": self._pack.to_json()}

    def needs(self, columns: Sequence[str]) -> list[str]:
        return [name for name in self._pack.columns if name in columns] or [self._pack.columns[0]]

    def unit_bytes(self, unit: Unit, rows: int) -> int:
        return rows * self._length * sum(max(1, kind.bit_width // 8) for kind in self._items.values())

    def padding(self, seen: Viewed) -> float:
        """The share of what comes of this view that is filled up."""
        tokens = sum(int(unit.mark) for shard in seen.counted_as for unit in shard)
        return 1 - tokens / (seen.rows * self._length)

    # -- counting ------------------------------------------------------------------------------------------------

    def counter(self, source: Manifest) -> Callable[[int, int], Counted]:
        def count(shard: int, place: int) -> Counted:
            told = [self._told(source, shard, place, name) for name in self._pack.columns]
            if None in told or len(set(told)) > 1:
                return self._counted(self._read(source, shard, place))
            assert told[0] is not None
            return self._counted(told[0] + self._separators(source.shards[shard].units[place].rows))

        return count

    def _counted(self, tokens: int) -> Counted:
        return Counted(-(-tokens // self._length), str(tokens))

    def _separators(self, documents: int) -> int:
        return 0 if self._separator is None else documents

    def _read(self, source: Manifest, shard: int, place: int) -> int:
        total = 0
        for batch in source.read(shard, [place], self._pack.columns):
            total += int(self._lengths(batch, self._pack.columns).sum()) + self._separators(batch.num_rows)
        return total

    def _told(self, source: Manifest, shard: int, place: int, name: str) -> int | None:
        """The tokens of a unit as the footer tells them, if it does."""
        if isinstance(source, Viewed):
            if not isinstance(source.view, Filtered) or source.counted_as[shard][place].mark != ALL:
                return None
            return self._told(source.source, shard, source.places[shard][place], name)
        one = source.shards[shard]
        if one.format != "parquet" or pa.types.is_floating(self._items[name]):  # fractions may be null
            return None
        found = source.footer(one)
        leaves = found.leaves_of([name])
        if len(leaves) != 1 or found.schema.get_field_index(name) < 0:
            return None
        group = one.units[place].index
        nulls = statistics.nulls(found, group, leaves[0])
        # a list that is null or empty counts as one value, which is null
        return None if nulls is None else found.metadata.row_group(group).column(leaves[0]).num_values - nulls

    # -- rows ----------------------------------------------------------------------------------------------------

    def rows(self, batches: Iterator[pa.RecordBatch], columns: Sequence[str]) -> Iterator[pa.RecordBatch | Counted]:
        schema = pa.schema([self.schema.field(name) for name in columns])
        names = self.needs(columns)
        rest = _Rest({name: [] for name in names})
        tokens = 0
        for batch in batches:
            lengths = self._lengths(batch, names)
            documents = lengths + 1 if self._separator is not None else lengths
            flat = {name: self._flat(batch.column(name), name, lengths) for name in names}
            tokens += int(documents.sum())
            for rows, filled in rest.cut(flat, documents[documents > 0], self._length):
                yield self._batch(schema, filled, rows)
        if rest.tokens:
            left = self._length - rest.tokens
            fill = {name: _array(np.repeat(self._fill[name], left), self._items[name]) for name in names}
            yield self._batch(schema, rest.joined(fill), runs.last(rest.lengths, rest.first))
        yield self._counted(tokens)

    def _batch(self, schema: pa.Schema, flat: Mapping[str, pa.Array], rows: pa.Array) -> pa.RecordBatch:
        arrays = []
        for one in schema:
            if one.name in flat:
                made = pa.Array.from_buffers(one.type, len(rows), [None], children=[flat[one.name]])
                arrays.append(made)
            else:
                arrays.append(rows)
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _lengths(self, batch: pa.RecordBatch, names: Sequence[str]) -> Ints:
        """Tokens of each document: int64 [rows]. Raises DataError where columns differ in it."""
        found = [_lengths(batch.column(name)) for name in names]
        for name, other in zip(names[1:], found[1:], strict=True):
            if not np.array_equal(found[0], other):
                row = int(np.flatnonzero(found[0] != other)[0])
                raise DataError(
                    f"a document of {found[0][row]} values in '{names[0]}' and {other[row]} in '{name}'",
                    allowed="lists of equal length in each row",
                    todo="check the data, or leave one of the columns out of Pack",
                )
        return found[0]

    def _flat(self, array: pa.Array, name: str, lengths: Ints) -> pa.Array:
        """The tokens of all documents; where there is no separator, the very ones that were decoded."""
        values = array.flatten()
        if values.null_count:
            raise DataError(
                f"column '{name}': {values.null_count} nulls inside lists",
                allowed="lists of numbers",
                todo="leave them out in a Prep",
            )
        if self._separator is None:
            return values
        ends = np.cumsum(lengths) + np.arange(len(lengths))
        is_token = np.ones(len(values) + len(lengths), bool)
        is_token[ends] = False
        found = dense(values)
        made = np.repeat(self._separator[name], len(is_token))
        made[is_token] = found
        return _array(made, self._items[name])


class _Rest:
    """Tokens that fill no row yet.

    Attributes:
        lengths: of the documents in it.
        first: the place of its first token in its document.
    """

    def __init__(self, parts: dict[str, list[pa.Array]]) -> None:
        self._parts = parts
        self.lengths: Ints = np.zeros(0, np.int64)
        self.first = 0

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())

    def joined(self, more: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
        """All of it, and what follows."""
        return {name: pa.concat_arrays([*parts, more[name]]) for name, parts in self._parts.items()}

    def cut(
        self, flat: Mapping[str, pa.Array], lengths: Ints, length: int
    ) -> Iterator[tuple[pa.Array, Mapping[str, pa.Array]]]:
        """Rows of runs with their tokens, out of what is here and what follows; what fills no row stays here.

        Args:
            flat, lengths: the tokens that follow, and those of each of their documents, none of which is empty.
        """
        before = self.tokens
        made, self.lengths, self.first = runs.encoded(np.concatenate([self.lengths, lengths]), self.first, length)
        head = (length - before) % length if before else 0
        if not len(made):
            for name, parts in self._parts.items():
                parts.append(flat[name])
            return
        rows = made
        if before:
            yield made[:1], self.joined({name: values.slice(0, head) for name, values in flat.items()})
            rows = made[1:]
        if len(rows):
            yield rows, {name: values.slice(head, len(rows) * length) for name, values in flat.items()}
        used = head + len(rows) * length
        for name, values in flat.items():
            self._parts[name] = [values.slice(used)]


def _lengths(array: pa.Array) -> Ints:
    found = pc.list_value_length(array)
    dtype = np.int64 if found.type == pa.int64() else np.int32
    lengths = numbers(found.buffers()[1], dtype, found.offset, len(found)).astype(np.int64)
    return lengths * dense(found.is_valid()) if found.null_count else lengths


def _item(name: str, kind: pa.DataType, where: str) -> pa.DataType:
    """The type of a list's tokens. Raises DataError if they are no numbers."""
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    item = kind.value_type if is_list else None
    number = item is not None and (pa.types.is_integer(item) or pa.types.is_floating(item) or pa.types.is_boolean(item))
    if not number:
        raise DataError(
            f"the column '{name}' of {kind}, to be packed",
            allowed="lists of numbers",
            todo="make lists of numbers in a Prep, or pack another column",
            where=where,
        )
    return item


def _token(value: Any, kind: pa.DataType, where: str) -> NDArray[Any]:
    """A value as one of a type: numpy [1]. Raises DataError if it is none."""
    dtype = layout_of(kind)[0]
    try:
        made = np.array([value]).astype(dtype)
        same = bool(made[0] == value) or (dtype.kind == "f" and bool(np.isfinite(made[0]) or not np.isfinite(value)))
    except OverflowError:
        same = False
    if not same:
        raise DataError(
            f"{value!r} in a column of {kind} that is packed",
            allowed=f"a value of {kind}",
            todo="check fill= and separator= of Pack",
            where=where,
        )
    return made


def _array(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """numpy's numbers as Arrow's, made without pandas."""
    data = np.packbits(values, bitorder="little") if pa.types.is_boolean(kind) else values
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(data)])
