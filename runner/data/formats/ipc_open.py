"""Open files of Arrow's formats, whose messages are looked at before pyarrow decodes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from runner.data.files.engines.base import Data
from runner.data.files.overlay import Overlay
from runner.data.formats.arrow_messages import BATCH, SCHEMA, Blocks, Message, behind_end, blocks, message
from runner.data.formats.extension import KEY, without_types
from runner.data.limits import beyond, limits, shown_bytes

FILE_MAGIC = b"ARROW1"


class _Checked:
    """An open file whose messages are looked at before pyarrow decodes them.

    Attributes:
        source: what pyarrow reads.
    """

    def __init__(self, source: pa.NativeFile) -> None:
        self.source, self._raw = source, source
        self._overlay: Overlay | None = None
        self._limits = limits()
        if isinstance(source, pa.PythonFile):
            self._replace()

    def _replace(self) -> Overlay:
        """Has pyarrow read through an overlay from now on."""
        if self._overlay is None:
            self._overlay = Overlay(self._raw)
            self.source = self._overlay.native()
        return self._overlay

    @property
    def _bytes(self) -> Any:
        return self._overlay or self._raw

    def _message(self, at: int) -> Message | None:
        return message(self._bytes, at, self._limits.footer_bytes)

    def keep(self, pieces: Iterable[tuple[int, Data]]) -> None:
        """Pieces of a remote file that were fetched, each with where it begins."""
        self._replace().keep_all(pieces)

    def _check(self, told: Message, what: str, wanted: Sequence[int] | None = None) -> int:
        """Bytes that the values of a message take. Raises DataError if they are too many."""
        length = told.end - told.start
        if told.is_compressed and wanted is None and self._overlay is not None:
            self._overlay.fetch([(told.body, told.end - told.body)])
        decoded = told.decoded(self._bytes, wanted) if told.is_compressed else 0
        if decoded > self._limits.at_once(length):
            raise beyond("at_once_bytes", f"{what}: {shown_bytes(decoded)} out of {shown_bytes(length)}")
        if told.rows > self._limits.in_all(length):
            raise beyond("ratio", f"{what}: {told.rows:,} rows out of {shown_bytes(length)}")
        return decoded


class File(_Checked):
    """One with a footer.

    Args:
        known: what the footer says, if it was read before.

    Attributes:
        blocks: what the footer says.
    """

    def __init__(self, source: pa.NativeFile, known: Blocks | None = None) -> None:
        super().__init__(source)
        self.blocks = known or footer_of(source)
        if self._overlay is not None or KEY in self.blocks.footer:
            self._replace().keep(self.blocks.start, without_types(self.blocks.footer))

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return pa.ipc.open_file(self.source).schema

    def message(self, index: int) -> Message:
        """What is said of a record batch."""
        return self._at(*self.blocks.batches[index])

    def check(self, index: int, wanted: Sequence[int] | None = None) -> Message:
        """Look at a record batch. Raises DataError if its values are too many bytes.

        Args:
            wanted: the only buffers of it that will be read; None: all.
        """
        told = self.message(index)
        self._check(told, f"record batch {index}", wanted)
        return told

    def check_dictionaries(self) -> None:
        """Look at all dictionaries, which pyarrow reads before any batch."""
        decoded = sum(self._check(self._at(*place), "a dictionary") for place in self.blocks.dictionaries)
        if decoded > self._limits.at_once(self._raw.size()):
            raise beyond(
                "at_once_bytes", f"dictionaries: {shown_bytes(decoded)} out of {shown_bytes(self._raw.size())}"
            )

    def _at(self, start: int, length: int) -> Message:
        if self._overlay is not None:
            self._overlay.fetch([(start, length)])
        told = self._message(start)
        if told is None:
            raise pa.ArrowInvalid(f"no message at {start}")
        return told


class Stream(_Checked):
    """One without a footer: its messages follow each other.

    Args:
        known: its first message, if that was read before.

    Attributes:
        schema: its columns.
        first: the message that says so.
        end: of the last batch that was given.
        is_here: whether all of it is kept.
    """

    def __init__(self, source: pa.NativeFile, known: Message | None = None) -> None:
        super().__init__(source)
        self.end, self.is_here = 0, False
        first = known or self._message(0)
        if first is None or first.kind != SCHEMA:
            raise pa.ArrowInvalid("a stream that does not begin with a schema")
        self.first = first
        if self._overlay is not None or KEY in first.metadata:
            self._keep_schema()
        self.source.seek(0)  # a file that was read at some place must be told where to go on
        self.schema = pa.ipc.open_stream(self.source).schema
        self.source.seek(0)

    def _keep_schema(self) -> None:
        kept = self._replace()
        kept.keep(0, self.first.prefix)
        kept.keep(self.first.start, without_types(self.first.metadata))

    def batches(self, options: pa.ipc.IpcReadOptions | None) -> Iterator[pa.RecordBatch]:
        """Its record batches, each looked at before it is decoded."""
        reader = pa.ipc.open_stream(self.source, options=options)
        at, dictionaries, before = self.first.end, 0, self.first.end
        while (told := self._message(at)) is not None:
            if self._overlay is not None and not self.is_here:
                self._overlay.fetch([(at, told.body - at)])
            decoded = self._check(told, f"the message at byte {at}")
            at = told.end
            if told.kind != BATCH:
                dictionaries += decoded
                if dictionaries > self._limits.at_once(at):
                    raise beyond("at_once_bytes", f"dictionaries: {shown_bytes(dictionaries)} out of {shown_bytes(at)}")
                continue
            self.end = at
            self.source.seek(before)
            batch, before = reader.read_next_batch(), at
            yield batch
            if self._overlay is not None and not self.is_here:
                self._overlay.forget()
                self._keep_schema()
        left = behind_end(self._bytes, at)
        if left:
            raise pa.ArrowInvalid(f"{left:,} bytes behind the end of the stream at byte {at:,}")

    def stretch(self, start: int, end: int) -> Iterator[pa.RecordBatch]:
        """The record batches of a stretch between messages, all columns of each, of a stream without dictionaries.

        Args:
            start: of the stretch; 0 is that of the stream.
        """
        start = start or self.first.end
        if self._overlay is not None:  # nothing, where it is kept already
            self._overlay.fetch([(start, end - start)])
        while start < end:
            told = self._message(start)
            if told is None or told.kind != BATCH or told.end > end:
                raise pa.ArrowInvalid(f"no record batch at {start}")
            self._check(told, f"the message at byte {start}")
            self.source.seek(start)
            yield pa.ipc.read_record_batch(pa.ipc.read_message(self.source), self.schema)
            start = told.end


def footer_of(source: pa.NativeFile | Overlay) -> Blocks:
    """The footer of an open file. Raises DataError where it passes a limit, and what `blocks` does."""
    most = limits().footer_bytes
    if source.size() > most:
        length = int.from_bytes(source.read_at(4, max(0, source.size() - 10)), "little", signed=True)
        if length > most:
            raise beyond("footer_bytes", f"a footer of {shown_bytes(length)}")
    return blocks(source, most)
