"""A row group of a remote file, decoded while its chunks are still on their way.

What the pages of a chunk become is looked at before pyarrow decodes them: here of those pages whose headers are among
the bytes that pyarrow is about to be given, and of chunks whose pages must all be known beforehand (text that a
dictionary names) before the first.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow.parquet as pq

from runner.data.files.fetch.source import Source
from runner.data.files.fetch.stages import LEAST_BYTES, Piece, Range, held_by, stages
from runner.data.files.staged import Staged
from runner.data.formats.parquet_footer import Footer
from runner.data.formats.parquet_pages import Plan, Walk, check_needed, needed_of, plan, ranges, width_of

#: What is held of one unit should take, about, if its chunks are not too many.
_HELD_BYTES = 16 << 20
#: Bytes of a page, which is decoded as a whole, as most writers have it.
_PAGE_BYTES = 1 << 20
#: Encodings of text that say nothing of other pages.
_PLAIN = frozenset(("PLAIN", "RLE", "BIT_PACKED", "DELTA_LENGTH_BYTE_ARRAY"))


class Unlike(Exception):
    """Pages of an encoding that the footer does not tell: their chunk must be looked at as a whole."""


def pieces_of(found: Footer, group: pq.RowGroupMetaData, leaves: Sequence[int], source: Source) -> list[Piece]:
    """The pieces in which the chunks of some columns are fetched, in the order in which they are needed; none where
    they are little, and best fetched all at once.
    """
    chunks = [
        Range(start, length, _must_be_whole(group.column(i), found.leaves[i]))
        for i, (start, length) in zip(leaves, ranges(group, leaves), strict=True)
    ]
    if sum(one.length for one in chunks) <= source.shape.most:
        return []
    pieces = stages(chunks, source.size, source.shape, _HELD_BYTES, LEAST_BYTES)
    return pieces if any(piece.place for piece in pieces) else []


def buffer_of(pieces: Sequence[Piece], usual: int) -> int:
    """Bytes of a chunk that pyarrow should take at a time: no more than what it is given at a time."""
    return min(usual, max((piece.end - piece.start for piece in pieces if piece.range is not None), default=usual))


def fits(found: Footer, group: pq.RowGroupMetaData, leaves: Sequence[int], source: Source, held: int) -> bool:
    """Whether a row group can be read as it comes while no more than so many bytes of it are held."""
    pieces = pieces_of(found, group, leaves, source)
    pages = sum(min(_PAGE_BYTES, group.column(i).total_uncompressed_size) for i in leaves)
    return bool(pieces) and held_by(pieces) + pages <= held


def _must_be_whole(chunk: pq.ColumnChunkMetaData, leaf: pq.ColumnSchema) -> bool:
    """Whether how it is read depends on all of its pages (see `Plan`)."""
    return width_of(leaf) is None and (chunk.has_dictionary_page or not _PLAIN.issuperset(chunk.encodings))


class Watch:
    """Looks at the pages of a row group before pyarrow does.

    Args:
        leaves: the columns that are read.
        length: bytes of the row group in the file.

    Attributes:
        plan: how it is read.
    """

    def __init__(
        self, file: Staged, found: Footer, group: pq.RowGroupMetaData, leaves: Sequence[int], length: int
    ) -> None:
        self._file, self._length, size = file, min(length, file.size()), file.size()
        whole = [i for i in leaves if _must_be_whole(group.column(i), found.leaves[i])]
        self.plan: Plan = plan(_Peeking(file), size, group, found.leaves, whole, length)
        self._needed = self.plan.needed
        self._walks = [(found.leaves[i], Walk(size, group.column(i))) for i in leaves if i not in set(whole)]
        self._walks.sort(key=lambda one: one[1].start)
        for leaf, walk in self._walks:
            if width_of(leaf) is None:
                self._go(leaf, walk, walk.start + 1, walk.end)
                self.plan.take_large(leaf, walk.pages)
        file.look = self._look

    @property
    def is_over(self) -> bool:
        """Whether all pages were seen."""
        return all(walk.is_over for _, walk in self._walks)

    def _look(self, start: int, end: int) -> None:
        """Bytes [start, end) are about to be read."""
        for leaf, walk in self._walks:
            if walk.start < end and start < walk.end and not walk.is_over:
                self._go(leaf, walk, end)

    def _go(self, leaf: pq.ColumnSchema, walk: Walk, until: int, readable: int | None = None) -> None:
        before = needed_of(leaf, walk.pages)
        if not walk.go(_Peeking(self._file), until, readable):
            return
        self._needed += needed_of(leaf, walk.pages) - before
        check_needed(self._needed, leaf, self._length)
        if width_of(leaf) is None and (walk.pages.named or walk.pages.shared):
            raise Unlike(f"pages of column '{leaf.path}' in an encoding that the footer does not name")


class _Peeking:
    """What headers are read from."""

    def __init__(self, file: Staged) -> None:
        self._file = file

    def read_at(self, count: int, start: int, /) -> bytes:
        return bytes(self._file.peek(count, start))
