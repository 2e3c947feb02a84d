"""Ranges that are not all needed at once: pieces of them, each with the place at which somebody who goes forward in all
of the ranges side by side comes to need it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from runner.data.files.fetch.spans import Shape, cut

#: Bytes of the first piece of a range: it is there soon. Each later one is twice as long as the one before.
FIRST_BYTES = 1 << 20
#: The shortest that the longest piece of a range may be where many ranges are read side by side.
LEAST_BYTES = 512 << 10


@dataclass(frozen=True)
class Piece:
    """The bytes [start, end) of a file.

    Args:
        place: share of its range that lies before it, from 0 to 1.
        range: number of the only range that it belongs to; None: it is the beginning of one, and all of others.
    """

    start: int
    end: int
    place: float = 0.0
    range: int | None = None


@dataclass(frozen=True)
class Range:
    """A range that is read from start to end.

    Args:
        whole: whether all of it is needed before any of it is of use.
    """

    start: int
    length: int
    whole: bool = False


def stages(ranges: Iterable[Range], size: int, shape: Shape, held: int, least: int = LEAST_BYTES) -> list[Piece]:
    """Pieces that cover ranges which are read side by side, in the order in which they are needed.

    Args:
        size: bytes of the file.
        shape: of its requests.
        held: bytes that all ranges may take at a time, about: of each its beginning, two pieces, and one for whoever
            reads it.
        least: bytes of a piece that this makes no shorter.

    Raises:
        ValueError: one begins before the file does.
    """
    told = sorted(ranges, key=lambda one: one.start)
    if told and told[0].start < 0:
        raise ValueError(f"{told[0].length} bytes from byte {told[0].start} on")
    ends = [min(one.start + one.length, following) for one, following in _with_next(told, size)]
    long = sum(1 for one, end in zip(told, ends, strict=True) if not one.whole and end - one.start > least)
    most = max(least, min(shape.most, held // (4 * max(1, long))))
    first = min(FIRST_BYTES, most)
    pieces: list[Piece] = []
    begun: list[int] | None = None  # what is joined: its start and end
    for number, (one, end) in enumerate(zip(told, ends, strict=True)):
        if end <= one.start:
            continue
        is_short = one.whole or end - one.start <= first
        head = end if is_short else one.start + first
        if begun is not None and one.start - begun[1] <= shape.gap and head - begun[0] <= shape.most:
            begun[1] = head
        else:
            pieces += _joined(begun, shape.most)
            begun = [one.start, head]
        if not is_short:
            pieces += _joined(begun, shape.most)
            pieces += _rest(number, one.start, head, end, most)
            begun = None
    pieces += _joined(begun, shape.most)
    return sorted(pieces, key=lambda piece: piece.place)


def _with_next(ranges: list[Range], size: int) -> Iterable[tuple[Range, int]]:
    """Each with where the next one begins."""
    return zip(ranges, [*(max(0, one.start) for one in ranges[1:]), size], strict=True)


def _joined(begun: list[int] | None, most: int) -> list[Piece]:
    return [] if begun is None else [Piece(start, end) for start, end in cut(begun[0], begun[1], most)]


def _rest(number: int, start: int, at: int, end: int, most: int) -> list[Piece]:
    """What follows the beginning of a range, in pieces that grow."""
    edges = [at]
    while edges[-1] < end:
        step, left = min(most, edges[-1] + at - 2 * start), end - edges[-1]
        edges.append(end if left <= step else edges[-1] + min(step, left - left // 2))  # no short one is left
    return [Piece(low, high, (low - start) / (end - start), number) for low, high in itertools.pairwise(edges)]


def held_by(pieces: Iterable[Piece]) -> int:
    """Bytes that are held at a time of what is read as it comes, about, and of what whoever reads it has besides."""
    joined, longest = 0, dict[int, int]()
    for piece in pieces:
        size = piece.end - piece.start
        if piece.range is None:
            joined += size
        else:
            longest[piece.range] = max(longest.get(piece.range, 0), size)
    return joined + 3 * sum(longest.values())
