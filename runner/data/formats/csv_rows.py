"""CSV: names, types and rows of a byte range, or of a whole compressed file."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeAlias

import pyarrow as pa
import pyarrow.csv as pacsv

from runner.data.files.readable import Readable
from runner.data.formats.arrow_words import Trouble, of_error
from runner.data.formats.csv_dialect import Dialect
from runner.data.formats.csv_types import changed_numbers, type_of
from runner.data.formats.guess import wider
from runner.data.formats.long_numbers import rounded, suspects
from runner.data.limits import beyond, limits
from runner.errors import DataError

#: Opens the bytes of a unit anew, from their start.
Opens: TypeAlias = Callable[[], pa.NativeFile]

#: Bytes parsed at a time; they grow where a row is longer.
BLOCK_BYTES = 16 << 20
#: How much of the end of a unit is kept to see how its last value was written.
_END_BYTES = 64 << 10
_BOM = b"\xef\xbb\xbf"
_COLUMN = re.compile(r"In CSV column #(\d+): ")
_QUOTED = re.compile(rb'"[^"]*"')


class Guess:
    """The types that the values of a CSV unit show, column by column, and how many rows and decoded bytes it has.

    Args:
        declared: the types of columns that need no guess.

    Raises:
        DataError: a declared type is none that text can be.
    """

    def __init__(self, names: Sequence[str], dialect: Dialect, declared: Mapping[str, pa.DataType]) -> None:
        self._names, self._dialect = names, dialect
        self._declared = [name in declared for name in names]
        self._kinds: list[pa.DataType] = [declared.get(name, pa.null()) for name in names]
        self._text = [0] * len(names)
        self._nothing = dialect.nothing
        self.rows = 0
        for name, kind in zip(names, self._kinds, strict=True):
            if pa.types.is_nested(kind):
                raise DataError(
                    f"the column '{name}' declared as {kind}",
                    allowed="types of single values: numbers, times, booleans, strings, binary",
                    todo="declare it as string, and take it apart in a Prep",
                )

    @property
    def schema(self) -> pa.Schema:
        """The columns with their types."""
        return pa.schema(list(zip(self._names, self._kinds, strict=True)))

    @property
    def bytes(self) -> int:
        """Bytes of all values in memory."""
        sizes = zip(self._kinds, self._text, strict=True)
        return sum(text if _is_text(kind) else self.rows * _width(kind) // 8 for kind, text in sizes)

    def add(self, batch: pa.RecordBatch) -> None:
        """Looks at rows whose values are all text."""
        self.rows += batch.num_rows
        for i, column in enumerate(batch.columns):
            self._text[i] += column.nbytes
            if not self._declared[i] and not pa.types.is_binary(self._kinds[i]):
                self._kinds[i] = wider(self._kinds[i], self._shown(column, self._kinds[i]), "csv")

    def _shown(self, column: pa.Array, likely: pa.DataType) -> pa.DataType:
        return type_of(self._dialect.with_points(column), likely, self._nothing)


def is_blank(stream: pa.NativeFile, lines: int = 0) -> bool:
    """Whether behind the first `lines` lines there is nothing but white space."""
    first = True
    while data := stream.read(1 << 16):
        if first:
            data, first = data.removeprefix(_BOM), False
        while lines and data:
            _, end, data = data.replace(b"\r", b"\n").partition(b"\n")
            lines -= len(end)
        if data.strip():
            return False
    return True


def is_header(opens: Opens, lines: int = 1) -> bool:
    """Whether there are only so many lines, with or without a line end."""
    with opens() as stream:
        return is_blank(stream, lines)


def header(opens: Opens, dialect: Dialect, wanted: Collection[str] | None) -> list[str]:
    """The names of the columns, of a file that is not blank.

    Args:
        wanted: the only ones that are asked for; None: all.

    Raises:
        DataError: two columns that are wanted have the same name.
    """
    if dialect.names:
        return list(dialect.names)
    size, most = 1 << 16, limits().line_bytes
    while True:
        _check_count(opens, dialect.delimiter, size)
        options = dialect.start(size)
        try:
            names = list(pacsv.open_csv(_plain(opens)(), options, dialect.parse()).schema.names)
            break
        except pa.ArrowInvalid as error:
            if is_header(opens, dialect.skip + 1):  # without a line end; only the reader of whole files takes it then
                with opens() as stream:
                    line = pa.BufferReader(stream.read(most) + b"\n")
                names = list(pacsv.read_csv(line, options, dialect.parse()).schema.names)
                break
            if of_error(error) is not Trouble.BLOCK_TOO_SMALL:
                raise _said(error, ()) from error
            if size >= most:
                raise beyond("line_bytes", "a header or a first row that is longer") from error
            size = min(8 * size, most)
    asked = names if wanted is None else [name for name in names if name in wanted]
    if len(set(asked)) < len(asked):
        twice = next(name for name in asked if asked.count(name) > 1)
        raise DataError(
            f"two columns are called '{twice}'",
            allowed="each name once",
            todo="rename one of them in the header, say csv={'names': [...]}, or leave them out with columns=",
        )
    return names


def _check_count(opens: Opens, delimiter: str, size: int) -> None:
    """Raise DataError for too many columns, of which each would take memory."""
    most = limits().fields
    with opens() as stream:
        head = bytes(stream.read(size))
    if head.count(delimiter.encode()) >= most:
        line = _QUOTED.sub(b"", head).replace(b"\r", b"\n").partition(b"\n")[0]
        if (count := line.count(delimiter.encode())) >= most:
            raise beyond("fields", f"{count + 1:,} columns or more")


def guess(
    opens: Opens,
    dialect: Dialect,
    names: Sequence[str],
    first: bool,
    most: int | None,
    declared: Mapping[str, pa.DataType],
) -> Guess:
    """Types and rows of a unit.

    Args:
        first: whether it is the start of the file.
        most: look only at about so many bytes at its start; None looks at all, and then the rows are counted.
        declared: the types of columns that need no guess.
    """
    found = Guess(names, dialect, declared)
    convert = pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.binary()), strings_can_be_null=False)
    watched = _Watched(opens)
    for batch in _batches(watched, dialect, names, first, convert, most or BLOCK_BYTES):
        found.add(batch)
        if most is not None:
            return found
        last = batch.columns[-1]
    if found.rows:
        watched.check_end(dialect, last[-1].as_py())
    return found


def read(
    opens: Opens, dialect: Dialect, names: Sequence[str], first: bool, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """The rows of a unit.

    Args:
        schema: the columns wanted, in this order, with their types.

    Raises:
        DataError: a value is not of its column's type, or a whole number in a column of fractions would be rounded.
    """
    wanted = list(schema.names) or list(names[:1])
    types = {field.name: field.type for field in schema}
    convert = dialect.convert(types, wanted)
    doubles = [field.name for field in schema if pa.types.is_float64(field.type)]
    watched, last = _Watched(opens, numbers=bool(doubles)), None
    for batch in _batches(watched, dialect, names, first, convert, BLOCK_BYTES):
        if watched.suspicious:
            _check_exact(opens, dialect, names, first, doubles)
            watched.seen()
        if names[-1] in types and _is_text(types[names[-1]]):
            last = batch.column(names[-1])[-1]
        yield batch.select(schema.names)
    if last is not None and last.is_valid:
        watched.check_end(dialect, last.cast(pa.binary()).as_py())


def _plain(opens: Opens) -> Opens:
    return lambda: _Blocks(opens()).native()


def _batches(
    opens: Opens,
    dialect: Dialect,
    names: Sequence[str],
    first: bool,
    convert: pacsv.ConvertOptions,
    size: int,
) -> Iterator[pa.RecordBatch]:
    """The rows of a unit; where one is longer than a block they are read anew with a larger one."""
    given = 0
    while True:
        options = dialect.rows(names, first, size)
        passed = 0
        try:
            for batch in pacsv.open_csv(opens(), options, dialect.parse(), convert):
                new = batch.slice(max(0, given - passed))
                passed += batch.num_rows
                if new.num_rows:
                    given += new.num_rows
                    yield new
            return
        except pa.ArrowInvalid as error:
            if first and not given and is_header(opens, dialect.lines_before_rows):
                return
            if of_error(error) is not Trouble.BLOCK_TOO_SMALL:
                raise _said(error, names) from error
            most = limits().line_bytes
            if size >= most:
                raise beyond("line_bytes", f"a row that is longer, after row {given}") from error
            size = min(4 * size, most)


def _check_exact(opens: Opens, dialect: Dialect, names: Sequence[str], first: bool, doubles: Sequence[str]) -> None:
    """Raises DataError for a whole number that its column's double would change."""
    types = dict.fromkeys(doubles, pa.string())
    convert = pacsv.ConvertOptions(column_types=types, include_columns=list(doubles), strings_can_be_null=False)
    for batch in _batches(_plain(opens), dialect, names, first, convert, BLOCK_BYTES):
        for name, column in zip(doubles, batch.columns, strict=True):
            for value in changed_numbers(column):
                raise rounded(name, value)


def _said(error: Exception, names: Sequence[str]) -> DataError:
    words = " ".join(str(error).split())
    column = _COLUMN.search(words)
    if column is not None and int(column[1]) < len(names):
        words = f"column '{names[int(column[1])]}': {words[: column.start()]}{words[column.end() :]}"
    return DataError(
        f"it cannot be decoded ({words})",
        allowed="rows with a value for each column, of the declared types and those that the values show",
        todo="mend the row, say how the file is written with csv= (delimiter, quote, skip, ...), leave the column out "
        "with columns=, or give format= if the ending misleads",
    )


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind))


def _width(kind: pa.DataType) -> int:
    return 0 if pa.types.is_null(kind) else int(kind.bit_width)


class _Watched:
    """Opens a unit's bytes, and looks as they are read for long whole numbers in them, and at how they end.

    Args:
        numbers: whether long whole numbers are looked for.
    """

    def __init__(self, opens: Opens, numbers: bool = False) -> None:
        self._opens, self._checked, self._end = opens, not numbers, b""
        self.suspicious = False

    def __call__(self) -> pa.NativeFile:
        self._end = b""
        return _Blocks(self._opens(), self._look).native()

    def _look(self, data: bytes) -> None:
        if not self._checked and not self.suspicious:
            self.suspicious = len(suspects(self._end[-64:] + data)) > 0  # a number may lie across two reads
        self._end = data[-_END_BYTES:] if len(data) >= _END_BYTES else (self._end + data)[-_END_BYTES:]

    def seen(self) -> None:
        """All numbers have been checked."""
        self.suspicious, self._checked = False, True

    def check_end(self, dialect: Dialect, value: bytes) -> None:
        """Raise DataError where the last value, which has this text, was begun by a quote that nothing ends: pyarrow
        takes all that follows for a part of it.
        """
        if dialect.quote is None or dialect.escape is not None:
            return
        quote = dialect.quote.encode()
        written = quote + value.replace(quote, 2 * quote)
        if len(written) <= len(self._end):
            before = self._end[-len(written) - 1 : -len(written)]
            is_open = self._end.endswith(written) and before in (dialect.delimiter.encode(), b"\n", b"\r", b"")
            # of '"\n"' at the end of a line the last two bytes look like a quote and a value as well
            is_open &= not self._end.rstrip(b"\r\n").endswith(written + quote)
        else:  # only of a quoted value these are a part
            is_quoted = any(mark in value for mark in (dialect.delimiter.encode(), b"\n", b"\r"))
            is_open = written.endswith(self._end) and is_quoted
        if is_open:
            raise DataError(
                "its last value begins with a quote, and no quote ends it",
                allowed="values whose quotes are closed",
                todo="fetch the file anew if it was cut off, mend the value, or say csv={'quote': None} if a quote is "
                "a character as any other",
            )


class _Blocks(Readable):
    """Reads so that no block ends inside of '\\r\\n': pyarrow would drop the '\\n' there, inside of quotes too."""

    def __init__(self, source: pa.NativeFile, look: Callable[[bytes], None] | None = None) -> None:
        super().__init__(source)
        self._look, self._rest = look, b""

    def read(self, count: int = -1) -> bytes:
        data = self._rest + super().read(max(count - len(self._rest), 1) if count >= 0 else -1)
        self._rest = b""
        if data.endswith(b"\r") and len(data) > 1 and count >= 0:
            data, self._rest = data[:-1], b"\r"
        if self._look is not None:
            self._look(data)
        return data
