"""Batches whose columns of pictures are decoded by several threads, the next batch while one is waited for."""

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

from runner.data.stream.pictures.decoder import Array, Decoder
from runner.data.stream.pictures.windows import Windows
from runner.data.stream.ragged import Ragged
from runner.data.stream.steps import Ready
from runner.data.stream.workers import Chain, Workers
from runner.errors import DataError, SpecError
from runner.spec.images import Image

#: What tells of a column which of its rows are pictures, where nulls are black.
VALID = ".valid"
#: Seconds that a thread gets to end: it decodes one picture.
_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Pictures:
    """What is decoded of a stream.

    Args:
        images: by column.
        seed: of the stream.
        rows: of an epoch.
        threads: that decode.
        ready_bytes: decoded, that may be ready ahead of the consumer.
        place: (epoch, position in it) -> file, unit and row, for errors.
    """

    images: Mapping[str, Image]
    seed: int
    rows: int
    threads: int
    ready_bytes: int
    place: Callable[[int, int], str]

    def decoded(self, steps: Iterator[tuple[Ready, int]]) -> Iterator[tuple[Ready, int]]:
        """The same batches with pictures, each with its size in bytes.

        The threads begin with the next batch before one is given, where two of them fit into `ready_bytes`.

        Raises:
            DataError: a row is no picture; its place is named.
        """
        decoders = {name: Decoder(image) for name, image in self.images.items()}
        workers = Workers(self.threads, "runner-pictures", _PATIENCE_S)
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
        """The columns of one batch, with pictures. Raises DataError."""
        workers = Workers(self.threads, "runner-pictures", _PATIENCE_S)
        try:
            decoders = {name: Decoder(image) for name, image in self.images.items()}
            return _Step(self, decoders, workers, ready, 0).result()[0].columns
        finally:
            workers.close()


class _Step:
    """A batch that is being decoded."""

    def __init__(
        self, pictures: Pictures, decoders: Mapping[str, Decoder], workers: Workers, ready: Ready, size: int
    ) -> None:
        self._ready, self._size = ready, size
        self._columns = {
            name: _Column(pictures, name, decoders[name], ready, ready.columns[name]) for name in pictures.images
        }
        tasks = [(column, row) for column in self._columns.values() for row in range(len(ready.positions))]
        turns = itertools.count()  # whose `next` is one step of the interpreter, so no two threads get the same
        many = min(pictures.threads, len(tasks))
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
        made: uint8 [B, height, width, channels], or a list of [height, width, channels].
        valid: bool [B], where nulls are black.
    """

    def __init__(self, pictures: Pictures, name: str, decoder: Decoder, ready: Ready, values: Any) -> None:
        image = pictures.images[name]
        self._name, self._image, self._decoder, self._place = name, image, decoder, pictures.place
        self._epoch, self._at = ready.epoch, (ready.positions - ready.epoch * pictures.rows).tolist()
        self._windows = Windows(image, pictures.seed, ready.epoch)
        self._data, rows = _buffers(values), len(self._at)
        self.made: Any = [None] * rows
        if image.shape is not None:
            self.made = np.empty((rows, *image.shape, image.channels), np.uint8)
        self.valid: Array | None = None
        if image.null == "zero":
            self.valid = np.array([one is not None for one in self._data], bool)

    @property
    def nbytes(self) -> int:
        """Of what was made."""
        return sum(int(one.nbytes) for one in self.made) if isinstance(self.made, list) else int(self.made.nbytes)

    def decode(self, row: int) -> None:
        """Make one picture. Raises DataError with its place."""
        data, position = self._data[row], self._at[row]
        try:
            if data is None:
                self._blank(row)
            elif self._image.shape is None:
                self.made[row] = self._decoder.whole(data, partial(self._windows.window, position=position))
            else:
                self._decoder.into(data, partial(self._windows.window, position=position), self.made[row])
        except DataError as error:
            raise DataError(
                f"column '{self._name}': {error.found}",
                allowed=error.allowed,
                todo=error.todo,
                where=self._place(self._epoch, position),
            ) from error

    def _blank(self, row: int) -> None:
        if self._image.null == "error":
            raise DataError(
                "a null where a picture should be",
                allowed="pictures",
                todo="say Image(null='zero'), which makes it black, or leave such rows out with filter=",
            )
        self.made[row] = 0 if self._image.shape is not None else np.zeros((0, 0, self._image.channels), np.uint8)


def check(images: Mapping[str, Image], schema: pa.Schema, taken: Collection[str]) -> None:
    """Raises SpecError for a column that cannot be decoded.

    Args:
        taken: all columns of the stream.
    """
    for name, image in images.items():
        kind = schema.field(name).type
        if not (pa.types.is_binary(kind) or _has_bytes(kind)):
            raise SpecError(
                f"decode={{{name!r}: ...}} of a column of {kind}",
                allowed="columns of binary, or of structures with a binary field 'bytes'",
                todo="take it out of decode=",
                where="Stream",
            )
        if image.null == "zero" and name + VALID in taken:
            raise SpecError(
                f"a column {name + VALID!r} beside {name!r}",
                allowed="none of that name with Image(null='zero'), which makes one",
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
