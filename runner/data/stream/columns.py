"""Columns of a stream: what is kept of each decoded piece, and how rows are gathered from many pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from runner.data.stream import memory
from runner.data.stream.dense import WITHOUT_NULLS, Dense, dense, is_dense, layout_of, numbers, storage
from runner.data.stream.memory import Ints
from runner.data.stream.ragged import Ragged
from runner.data.stream.views import runs
from runner.data.values.arrays import indices
from runner.data.values.python import to_python
from runner.errors import DataError

#: What a batch has of a column before it becomes tensors: numpy [rows, ...], a Ragged, Python values, or Arrow.
Values: TypeAlias = Any
#: A piece, and its rows [start, stop).
Stretch: TypeAlias = tuple[int, int, int]


class Column(Protocol):
    """One column of a stream. Pieces have numbers, which are used again once a piece is let go of."""

    def part(self, array: pa.Array) -> Any:
        """What is kept of a piece; runs in any thread. Raises DataError for values that no batch can have."""
        ...

    def keep(self, piece: int, part: Any) -> None:
        """Rows of this piece may be asked for."""
        ...

    def drop(self, piece: int) -> None:
        """They may not any more."""
        ...

    def rows(self, pieces: Ints, rows: Ints) -> Values:
        """Rows by piece and row in the piece, in this order."""
        ...

    def stretches(self, stretches: Sequence[Stretch]) -> Values:
        """The rows of stretches, one after the other; at least one."""
        ...


def column_of(field: pa.Field, as_: str) -> Column:
    """The column of a field; see `column`."""
    asked = runs.asked(field)
    return column(field.type, as_) if asked is None else Runs(*asked, as_)


def column(kind: pa.DataType, as_: str) -> Column:
    """The column of an Arrow type.

    Args:
        as_: 'torch', 'numpy' or 'arrow'.
    """
    stored = storage(kind)
    if is_dense(stored):
        made: Column = Fixed(stored)
    elif _item(stored) is not None:
        made = Sized(stored)
    else:
        return Mixed(stored, python=as_ != "arrow")
    return AsArrow(made, stored) if as_ == "arrow" else made


class _Parts:
    """Parts by the number of their piece."""

    def __init__(self) -> None:
        self._parts: list[Any] = []

    def keep(self, piece: int, part: Any) -> None:
        if piece >= len(self._parts):
            self._parts.extend([None] * (piece + 1 - len(self._parts)))
        self._parts[piece] = part

    def drop(self, piece: int) -> None:
        self._parts[piece] = None


class Fixed(_Parts):
    """Rows of one size."""

    def __init__(self, kind: pa.DataType) -> None:
        super().__init__()
        self._dtype, self._shape = layout_of(kind)
        self._width = self._dtype.itemsize * int(np.prod(self._shape, dtype=np.int64))
        self._places = memory.Places(self._width)

    def part(self, array: pa.Array) -> Dense:
        return np.ascontiguousarray(dense(array))

    def keep(self, piece: int, part: Dense) -> None:
        super().keep(piece, part if self._width <= memory.WIDEST else part.reshape(-1).view(np.uint8).data)
        if part.size and self._width <= memory.WIDEST:
            self._places.keep(piece, memory.address(part), part.nbytes)

    def rows(self, pieces: Ints, rows: Ints) -> Dense:
        if self._width > memory.WIDEST:
            starts = rows * self._width
            flat = memory.joined(self._parts, pieces.tolist(), starts.tolist(), (starts + self._width).tolist())
        else:
            flat = self._places.rows(pieces, rows)
        return flat.view(self._dtype).reshape(len(rows), *self._shape)

    def stretches(self, stretches: Sequence[Stretch]) -> Dense:
        if self._width > memory.WIDEST:
            flat = _joined(
                self._parts, [(piece, low * self._width, high * self._width) for piece, low, high in stretches]
            )
            return flat.view(self._dtype).reshape(-1, *self._shape)
        return np.concatenate([self._parts[piece][low:high] for piece, low, high in stretches])

    @property
    def width(self) -> int:
        """Bytes of a row."""
        return self._width

    def empty(self, *shape: int) -> Dense:
        """New memory for so many rows, of which nothing is there yet."""
        return np.empty((*shape, *self._shape), self._dtype)

    def held(self, piece: int, start: int, stop: int) -> Dense:
        """A view of rows of a piece that is kept."""
        rows: Dense = self._parts[piece][start:stop]
        return rows


class Sized(_Parts):
    """Rows of different length, of bytes or of values of one size."""

    def __init__(self, kind: pa.DataType) -> None:
        super().__init__()
        self._kind, self._item = kind, _item(kind)
        assert self._item is not None
        self._dtype, self._shape = layout_of(self._item)
        self._width = self._dtype.itemsize * int(np.prod(self._shape, dtype=np.int64))
        self._offset = 8 if pa.types.is_large_list(kind) or _is_large(kind) else 4
        self._name = "list" if _is_list(kind) else "text" if _is_text(kind) else "bytes"
        self._starts, self._offsets, self._length = (np.zeros(64, np.int64) for _ in range(3))
        self._nulls = np.zeros(64, bool)

    def part(self, array: pa.Array) -> tuple[Dense, Dense, Dense | None]:
        """Values, offsets into them, and which rows are not null (None: all)."""
        array = array.storage if isinstance(array, pa.ExtensionArray) else array
        valid = None
        if array.null_count:
            if _is_list(self._kind):
                raise DataError(
                    f"{array.null_count} nulls in a column of {self._kind}",
                    allowed="lists, if need be empty ones",
                    todo=WITHOUT_NULLS,
                )
            valid = dense(array.is_valid())
        number = np.int64 if self._offset == 8 else np.int32
        offsets = numbers(array.buffers()[1], number, array.offset, len(array) + 1 if len(array) else 0)
        if not len(array):
            offsets = np.zeros(1, number)
        if _is_list(self._kind):
            first, last = int(offsets[0]), int(offsets[-1])
            values = np.ascontiguousarray(dense(array.values.slice(first, last - first)))
            return values, offsets - offsets[0] if first else offsets, valid
        if _is_text(self._kind):
            array.validate(full=True)  # whoever reads the file may have checked nothing
        values = np.frombuffer(array.buffers()[2] or b"", np.uint8)
        return values, offsets, valid

    def keep(self, piece: int, part: tuple[Dense, Dense, Dense | None]) -> None:
        values, offsets, valid = part
        flat = values.reshape(-1).view(np.uint8) if values.size else np.empty(0, np.uint8)
        super().keep(piece, (flat.data, *part))
        if piece >= len(self._starts):
            self._starts, self._offsets, self._length, self._nulls = (
                _grown(table, piece) for table in (self._starts, self._offsets, self._length, self._nulls)
            )
        self._starts[piece] = memory.address(flat) + int(offsets[0]) * self._width
        self._offsets[piece] = memory.address(offsets)
        self._length[piece] = _length(offsets)
        self._nulls[piece] = valid is not None

    def rows(self, pieces: Ints, rows: Ints) -> Ragged:
        valid = self._valid(pieces, rows) if self._nulls[pieces].any() else None
        lengths = self._length[pieces]
        length = int(lengths[0]) if len(lengths) else -1
        width = length * self._width
        if valid is None and 0 <= width <= memory.WIDEST and (lengths == length).all():
            flat = memory.gather(self._starts[pieces] + rows * width, width)
            offsets = np.arange(len(rows) + 1, dtype=np.int64) * length
        else:
            flat, offsets = self._joined(pieces, rows, valid)
        return Ragged(flat.view(self._dtype).reshape(-1, *self._shape), offsets, self._name, valid)

    def stretches(self, stretches: Sequence[Stretch]) -> Ragged:
        parts = [(self._parts[piece], low, high) for piece, low, high in stretches]
        if any(valid is not None for (_, _, _, valid), _, _ in parts):
            pieces = np.concatenate([np.full(high - low, piece) for piece, low, high in stretches])
            return Sized.rows(self, pieces, np.concatenate([np.arange(low, high) for _, low, high in stretches]))
        bounds = [offsets[low : high + 1].astype(np.int64) for (_, _, offsets, _), low, high in parts]
        width, offsets, end = self._width, [np.zeros(1, np.int64)], 0
        for one in bounds:
            offsets.append(one[1:] - (int(one[0]) - end))
            end += int(one[-1]) - int(one[0])
        where = [
            (piece, int(one[0]) * width, int(one[-1]) * width)
            for (piece, _, _), one in zip(stretches, bounds, strict=True)
        ]
        flat = _joined([None if part is None else part[0] for part in self._parts], where)
        return Ragged(flat.view(self._dtype).reshape(-1, *self._shape), np.concatenate(offsets), self._name)

    def _joined(self, pieces: Ints, rows: Ints, valid: Dense | None) -> tuple[Dense, Ints]:
        number = np.int64 if self._offset == 8 else np.int32
        where = self._offsets[pieces] + rows * self._offset
        starts = memory.gather(where, self._offset).view(number).astype(np.int64)
        stops = memory.gather(where + self._offset, self._offset).view(number).astype(np.int64)
        if valid is not None:
            stops = np.where(valid, stops, starts)  # what a null's slot holds is of no account
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(stops - starts, out=offsets[1:])
        bounds = (starts * self._width).tolist(), (stops * self._width).tolist()
        views = [None if part is None else part[0] for part in self._parts]
        return memory.joined(views, pieces.tolist(), *bounds), offsets  # type: ignore[arg-type]

    def _valid(self, pieces: Ints, rows: Ints) -> Dense | None:
        valid = np.ones(len(rows), bool)
        for piece in np.unique(pieces).tolist():
            own = self._parts[piece][3]
            if own is not None:
                here = pieces == piece
                valid[here] = own[rows[here]]
        return None if valid.all() else valid


class Runs(Sized):
    """Of packed rows: a number for each token, made of runs when rows are gathered; see `runs.expanded`.

    Args:
        what: `runs.DOCUMENT` or `runs.POSITION`.
        length: tokens of a row.
    """

    def __init__(self, what: str, length: int, as_: str) -> None:
        super().__init__(runs.KIND)
        self._what, self._tokens, self._as = what, length, as_

    def rows(self, pieces: Ints, rows: Ints) -> Any:
        return self._expanded(super().rows(pieces, rows))

    def stretches(self, stretches: Sequence[Stretch]) -> Any:
        return self._expanded(super().stretches(stretches))

    def _expanded(self, found: Ragged) -> Any:
        made = runs.expanded(found.values, found.offsets, self._tokens, self._what)
        return as_arrow(made, pa.list_(pa.int32(), self._tokens)) if self._as == "arrow" else made


class Mixed(_Parts):
    """Rows of any type, by Arrow's own means: structures, maps, and lists of what differs in size.

    Args:
        python: whether rows are given as values of Python's; else as an Arrow array.
    """

    def __init__(self, kind: pa.DataType, python: bool) -> None:
        super().__init__()
        self._kind, self._python = kind, python

    def part(self, array: pa.Array) -> pa.Array:
        return array.storage if isinstance(array, pa.ExtensionArray) else array

    def rows(self, pieces: Ints, rows: Ints) -> Any:
        found = picked(self._parts, pieces, rows, self._kind)
        return to_python(found) if self._python else found

    def stretches(self, stretches: Sequence[Stretch]) -> Any:
        found = [self._parts[piece].slice(low, high - low) for piece, low, high in stretches]
        whole = found[0] if len(found) == 1 else pa.concat_arrays(found)
        return to_python(whole) if self._python else whole


class AsArrow:
    """A column as an Arrow array: its fast form where no row is null, else by Arrow's own means.

    Args:
        fast: the fast form.
    """

    def __init__(self, fast: Column, kind: pa.DataType) -> None:
        self._fast, self._kind = fast, kind
        self._whole = Mixed(kind, python=False)
        self._is_fast = np.zeros(64, bool)

    def part(self, array: pa.Array) -> tuple[pa.Array, Any]:
        whole = self._whole.part(array)
        return whole, None if _has_nulls(whole) else self._fast.part(whole)

    def keep(self, piece: int, part: tuple[pa.Array, Any]) -> None:
        whole, fast = part
        self._is_fast = _grown(self._is_fast, piece)
        self._is_fast[piece] = fast is not None
        self._whole.keep(piece, whole)
        if fast is not None:
            self._fast.keep(piece, fast)

    def drop(self, piece: int) -> None:
        self._whole.drop(piece)
        if self._is_fast[piece]:
            self._fast.drop(piece)

    def rows(self, pieces: Ints, rows: Ints) -> pa.Array:
        if self._is_fast[pieces].all():
            return as_arrow(self._fast.rows(pieces, rows), self._kind)
        return self._whole.rows(pieces, rows)

    def stretches(self, stretches: Sequence[Stretch]) -> pa.Array:
        return self._whole.stretches(stretches)  # of one piece it is not even copied


def as_arrow(values: Any, kind: pa.DataType) -> pa.Array:
    """The Arrow array, of a plain type, of values without nulls; without a copy, but for booleans."""
    if isinstance(values, Ragged):
        large = pa.types.is_large_list(kind) or _is_large(kind)
        if not large and len(values) and int(values.offsets[-1]) > np.iinfo(np.int32).max:
            raise DataError(
                f"a batch of {int(values.offsets[-1]):,} values in a column of {kind}",
                allowed="up to 2,147,483,647",
                todo="use a smaller batch",
            )
        offsets = pa.py_buffer(values.offsets if large else values.offsets.astype(np.int32))
        if not _is_list(kind):
            return pa.Array.from_buffers(kind, len(values), [None, offsets, pa.py_buffer(values.values)])
        inner = as_arrow(values.values, kind.value_type)
        return pa.Array.from_buffers(kind, len(values), [None, offsets], children=[inner])
    if pa.types.is_fixed_size_list(kind):
        inner = as_arrow(values.reshape(-1, *values.shape[2:]), kind.value_type)
        return pa.Array.from_buffers(kind, len(values), [None], children=[inner])
    if pa.types.is_boolean(kind):
        bits = pa.py_buffer(np.packbits(values, bitorder="little"))
        return pa.Array.from_buffers(kind, len(values), [None, bits])
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def _joined(views: Sequence[Any], where: Sequence[Stretch]) -> Dense:
    """Bytes [start, stop) of pieces."""
    pieces, starts, stops = zip(*where, strict=True)
    return memory.joined(views, pieces, starts, stops)


def picked(parts: Sequence[Any], pieces: Ints, rows: Ints, kind: pa.DataType) -> pa.Array:
    """Rows of Arrow arrays, by array and row in it, in this order."""
    by = np.argsort(pieces, kind="stable")
    found = []
    for piece in np.unique(pieces).tolist():
        own = by[slice(*np.searchsorted(pieces[by], [piece, piece + 1]))]
        found.append(parts[piece].take(indices(rows[own])))
    if not found:
        return pa.nulls(0, kind)
    if len(found) == 1:
        return found[0]
    place = np.empty(len(by), np.int64)
    place[by] = np.arange(len(by))
    return pa.concat_arrays(found).take(indices(place))


def _has_nulls(array: pa.Array) -> bool:
    """Whether a row, or a value inside one, is null."""
    if array.null_count:
        return True
    if pa.types.is_fixed_size_list(array.type):
        size = array.type.list_size
        return _has_nulls(array.values.slice(array.offset * size, len(array) * size))
    return _is_list(array.type) and _has_nulls(array.values)


def _length(offsets: Dense) -> int:
    """Of every row, or -1 where they differ."""
    if len(offsets) < 2:
        return 0
    first = int(offsets[1]) - int(offsets[0])
    if int(offsets[-1]) - int(offsets[0]) != first * (len(offsets) - 1):
        return -1
    return first if bool((offsets[1:] - offsets[:-1] == first).all()) else -1


def _item(kind: pa.DataType) -> pa.DataType | None:
    """The type of the values in a row, where rows differ in length and all values have one size."""
    if _is_list(kind):
        return kind.value_type if is_dense(kind.value_type) else None
    return pa.uint8() if _is_text(kind) or _is_bytes(kind) else None


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_large(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_large_binary(kind))


def _grown(table: np.ndarray[Any, Any], piece: int) -> np.ndarray[Any, Any]:
    if piece < len(table):
        return table
    return np.concatenate([table, np.zeros(piece + 1, table.dtype)])
