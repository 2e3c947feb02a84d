"""What decodes the values of a column, whatever they are, and the random numbers of a place in the order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Place:
    """Where a value stands in the order.

    Args:
        seed: of the stream.
        position: in the epoch.
    """

    seed: int
    epoch: int
    position: int


class Decoder(Protocol):
    """Decodes the values of one column; for several threads at once.

    Attributes:
        what: a value is, in a word.
        blank: what a null is where it is no error, in words.
        counted: the name that the column of counts has behind that of the values; "" where nothing is counted.
        shape: of each value; None: they differ.
        dtype: of the values.
    """

    @property
    def what(self) -> str: ...
    @property
    def blank(self) -> str: ...
    @property
    def counted(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...] | None: ...
    @property
    def dtype(self) -> type[np.generic]: ...

    def into(self, data: Any, place: Place, target: Array) -> int:
        """Write a value to `target`, and say how much of it is not filled up. Raises DataError without a place.

        Args:
            data: a buffer of bytes.
        """
        ...

    def whole(self, data: Any, place: Place) -> tuple[Array, int]:
        """A value in its own shape, and how much of it is not filled up. Raises DataError without a place."""
        ...

    def nothing(self) -> Array:
        """What a null is among values in their own shapes."""
        ...


def key_of(text: str) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """The key of a generator, from words that name it."""
    return np.frombuffer(hashlib.blake2b(text.encode(), digest_size=16).digest(), "<u8")


def numbers(key: np.ndarray[Any, np.dtype[np.uint64]], position: int, many: int) -> Iterator[float]:
    """From 0 up to 1, without 1: those of Philox at the counter of the position, so none depends on another value."""
    philox = np.random.Philox(key=key, counter=np.array([0, position, 0, 0], np.uint64))
    raw = philox.random_raw(many)
    return iter(((raw >> np.uint64(11)) * 2.0**-53).tolist())
