"""Batches whose columns of pictures, sounds and clips are decoded by several threads, the next batch while one is
waited for."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from runner.data.stream.media.base import Array, Decoder, Place
from runner.data.stream.media.clips import Clips
from runner.data.stream.media.pictures import Pictures
from runner.data.stream.media.sounds import Sounds
from runner.data.stream.ragged import Ragged
from runner.data.stream.steps import Ready
from runner.data.stream.workers import Chain, Workers
from runner.errors import DataError, SpecError
from runner.spec.audio import Audio
from runner.spec.media import Declared
from runner.spec.video import Video

#: What tells of a column which of its rows are there, where nulls are blank.
VALID = ".valid"
#: Seconds that a thread gets to end: it decodes one value.
_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Decoding:
    """What is decoded of a stream.

    Args:
        declared: by column.
        seed: of the stream.
        rows: of an epoch.
        threads: that decode.
        ready_bytes: decoded, that may be ready ahead of the consumer.
        place: (epoch, position in it) -> file, unit and row, for errors.
    """

    declared: Mapping[str, Declared]
    seed: int
    rows: int
    threads: int
    ready_bytes: int
    place: Callable[[int, int], str]

    def decoded(self, steps: Iterator[tuple[Ready, int]]) -> Iterator[tuple[Ready, int]]:
        """The same batches with what is declared, each with its size in bytes.

        The threads begin with the next batch before one is given, where two of them fit into `ready_bytes`.

        Raises:
            DataError: a row cannot be decoded; its place is named.
        """
        decoders = {name: decoder_of(one) for name, one in self.declared.items()}
        workers = Workers(self.threads, "runner-media", _PATIENCE_S)
        begun: deque[_Step] = deque()
        size, failed = self.ready_bytes, None
        try:
            while failed is None or begun:
                if failed is None:
                    try:
                        begun.append(_Step(self, decoders, workers, *next(steps)))
                    except (Exception, CancelledError) as error:  # it comes behind the batches that are begun
                        failed = error
                if len(begun) > (failed is None and 2 * size <= self.ready_bytes):
                    done, size = begun.popleft().result()
                    yield done, size
            if not isinstance(failed, StopIteration):
                raise failed
        finally:
            workers.close()
            close = getattr(steps, "close", None)
            if close is not None:
                close()

    def columns_of(self, ready: Ready) -> dict[str, Any]:
        """The columns of one batch, with what is declared. Raises DataError."""
        workers = Workers(self.threads, "runner-media", _PATIENCE_S)
        try:
            decoders = {name: decoder_of(one) for name, one in self.declared.items()}
            return _Step(self, decoders, workers, ready, 0).result()[0].columns
        finally:
            workers.close()


class _Step:
    """A batch that is being decoded."""

    def __init__(
        self, decoding: Decoding, decoders: Mapping[str, Decoder], workers: Workers, ready: Ready, size: int
    ) -> None:
        self._ready, self._size = ready, size
        self._columns = {
            name: _Column(decoding, name, decoders[name], ready, ready.columns[name]) for name in decoding.declared
        }
        tasks = [(column, row) for column in self._columns.values() for row in range(len(ready.positions))]
        turns = itertools.count()  # whose `next` is one step of the interpreter, so no two threads get the same
        many = min(decoding.threads, len(tasks))
        self._parts: list[Future[None]] = [workers.submit(Chain(), partial(_work, tasks, turns)) for _ in range(many)]

    def result(self) -> tuple[Ready, int]:
        """The batch, and its size in bytes, once it is decoded."""
        for part in self._parts:
            part.result()
        columns, size, made = dict(self._ready.columns), self._size, 0
        for name, column in self._columns.items():
            columns[name] = column.made
            if column.valid is not None:
                columns[name + VALID] = column.valid
            if column.counts is not None:
                columns[name + column.counted] = column.counts
            made += column.nbytes
            size -= int(getattr(self._ready.columns[name], "nbytes", 0))
        return replace(self._ready, columns=columns), max(size, 0) + made


def _work(tasks: Sequence[tuple[_Column, int]], turns: Iterator[int]) -> None:
    """What each thread does until all is done."""
    while (turn := next(turns)) < len(tasks):
        column, row = tasks[turn]
        column.decode(row)


class _Column:
    """A column of a batch.

    Attributes:
        made: of the decoder's dtype [B, ...], or a list of arrays of their own shapes.
        valid: bool [B], where nulls are blank.
        counts: int64 [B]: how much of each value is not filled up, where that is counted.
        counted: the end of the name that `counts` has.
    """

    def __init__(self, decoding: Decoding, name: str, decoder: Decoder, ready: Ready, values: Any) -> None:
        self._name, self._decoder, self._seed, self._where = name, decoder, decoding.seed, decoding.place
        self._epoch, self._at = ready.epoch, (ready.positions - ready.epoch * decoding.rows).tolist()
        self._data, rows = _buffers(values), len(self._at)
        self.made: Any = [None] * rows if decoder.shape is None else np.empty((rows, *decoder.shape), decoder.dtype)
        self.counted = decoder.counted
        self.counts: Array | None = np.zeros(rows, np.int64) if decoder.counted else None
        self._is_blank = decoding.declared[name].null == "zero"
        self.valid: Array | None = None
        if self._is_blank:
            self.valid = np.array([one is not None for one in self._data], bool)

    @property
    def nbytes(self) -> int:
        """Of what was made."""
        return sum(int(one.nbytes) for one in self.made) if isinstance(self.made, list) else int(self.made.nbytes)

    def decode(self, row: int) -> None:
        """Make one value. Raises DataError with its place."""
        data, position, count = self._data[row], self._at[row], 0
        place = Place(self._seed, self._epoch, position)
        try:
            if data is None:
                self._blank(row)
            elif isinstance(self.made, list):
                self.made[row], count = self._decoder.whole(data, place)
            else:
                count = self._decoder.into(data, place, self.made[row])
        except DataError as error:
            raise DataError(
                f"column '{self._name}': {error.found}",
                allowed=error.allowed,
                todo=error.todo,
                where=self._where(self._epoch, position),
            ) from error
        if self.counts is not None:
            self.counts[row] = count

    def _blank(self, row: int) -> None:
        what, made = self._decoder.what, self._decoder.blank
        if not self._is_blank:
            raise DataError(
                f"a null where a {what} should be",
                allowed=f"{what}s",
                todo=f"say null='zero', which makes it {made}, or leave such rows out with filter=",
            )
        self.made[row] = self._decoder.nothing() if isinstance(self.made, list) else 0


def decoder_of(declared: Declared) -> Decoder:
    """What decodes a column that is declared so. Imports the libraries. Raises MissingPackage."""
    if isinstance(declared, Audio):
        return Sounds(declared)
    return Clips(declared) if isinstance(declared, Video) else Pictures(declared)


def check(declared: Mapping[str, Declared], schema: pa.Schema, taken: Collection[str]) -> None:
    """Raises SpecError for a column that cannot be decoded.

    Args:
        taken: all columns of the stream.
    """
    for name, one in declared.items():
        kind = schema.field(name).type
        if not (pa.types.is_binary(kind) or _has_bytes(kind)):
            raise SpecError(
                f"decode={{{name!r}: ...}} of a column of {kind}",
                allowed="columns of binary, or of structures with a binary field 'bytes'",
                todo="take it out of decode=",
                where="Stream",
            )
        made = ([VALID] if one.null == "zero" else []) + ([one.counted] if one.counted else [])
        for beside in (name + end for end in made):
            if beside in taken:
                raise SpecError(
                    f"a column {beside!r} beside {name!r}",
                    allowed=f"none of that name with decode={{{name!r}: ...}}, which makes one",
                    todo="leave it out with columns=",
                    where="Stream",
                )


def _has_bytes(kind: pa.DataType) -> bool:
    at = kind.get_field_index("bytes") if pa.types.is_struct(kind) else -1
    return at >= 0 and bool(pa.types.is_binary(kind.field(at).type))


def _buffers(values: Any) -> list[Any]:
    """Of each row its bytes, without a copy; None of a null."""
    if not isinstance(values, Ragged):  # structures
        return [value if value is None else value["bytes"] for value in values]
    data = memoryview(values.values)
    found: list[Any] = [data[low:high] for low, high in itertools.pairwise(values.offsets.tolist())]
    if values.valid is None:
        return found
    return [one if valid else None for one, valid in zip(found, values.valid.tolist(), strict=True)]
