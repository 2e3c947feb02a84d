"""Which requests are made for the ranges that are wanted: near ones are joined, long ones cut."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

_KIB, _MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Shape:
    """How ranges become requests.

    Args:
        gap: bytes between two ranges up to which both are one request.
        most: bytes of a request; a longer range is cut into equal ones.
    """

    gap: int
    most: int


#: By scheme (docs/streaming.md, Fetching, says how they were measured); others have the last line.
SHAPES = {
    "s3": Shape(gap=256 * _KIB, most=4 * _MIB),
    "http": Shape(gap=256 * _KIB, most=4 * _MIB),
    "": Shape(gap=256 * _KIB, most=8 * _MIB),
}


def shape_of(scheme: str) -> Shape:
    """The shape for a scheme of URLs."""
    return SHAPES.get({"s3a": "s3", "https": "http"}.get(scheme, scheme), SHAPES[""])


def spans(ranges: Iterable[tuple[int, int]], size: int, shape: Shape) -> list[tuple[int, int]]:
    """The requests [start, end), in order of the file.

    Args:
        ranges: (start, length) of what is wanted; they may overlap, and reach beyond the end.
        size: bytes of the file.

    Raises:
        ValueError: one begins before the file does: what says where it lies is damaged, and no store has such bytes.
    """
    joined: list[list[int]] = []
    for start, length in sorted(ranges):
        if start < 0:
            raise ValueError(f"{length} bytes from byte {start} on")
        end = min(start + length, size)
        if start >= end:
            continue
        if joined and start - joined[-1][1] <= shape.gap:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    return [piece for start, end in joined for piece in cut(start, end, shape.most)]


def cut(start: int, end: int, most: int) -> list[tuple[int, int]]:
    """[start, end) in equal pieces of at most so many bytes."""
    count = -(-(end - start) // most)
    edges = [start + (end - start) * i // count for i in range(count + 1)] if count else []
    return list(itertools.pairwise(edges))
