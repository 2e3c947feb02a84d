"""JSON lines: blocks that end at line ends, their types, and their rows."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.json as pajson

from runner.data.formats.arrow_words import Trouble, of_error
from runner.data.formats.blocks import blocks, line_ends
from runner.data.formats.guess import LONG, contradicts, differing, has_double, wider
from runner.data.formats.json_shape import check_lines, check_no_null, pieces, rows_at_once
from runner.data.formats.long_numbers import json_paths, rounded
from runner.data.values.recast import recast
from runner.data.values.schema_shape import check_shape, count_fields
from runner.data.values.types import fields_of, lists_nulls
from runner.errors import DataError

_ROW = re.compile(r" in row (\d+)$")
_CHANGED = re.compile(r"Column\(/(?P<path>(?P<field>[^/)]+)[^)]*)\) changed from (\w+) to (\w+)(?: in row (\d+))?")


class Guess:
    """The types that blocks of JSON lines show, field by field, and how many rows and decoded bytes they have.

    Args:
        rows: that came before, for errors.
        declared: the types of fields that need no guess.
        only: the fields that somebody wants; others may contradict each other. None: all.
    """

    def __init__(
        self,
        rows: int = 0,
        declared: Mapping[str, pa.DataType] | None = None,
        only: Collection[str] | None = None,
    ) -> None:
        self._declared = dict(declared or {})
        self._only = None if only is None else set(only)
        self._kind: pa.DataType = pa.struct(list(self._declared.items()))
        self._settled = False  # whether the last rows that were looked at have shown nothing new
        self.rows, self.bytes = rows, 0

    @property
    def kind(self) -> pa.DataType:
        """The type of an object."""
        return self._kind

    @property
    def schema(self) -> pa.Schema:
        """The fields seen so far."""
        return pa.schema([self._kind.field(i) for i in range(self._kind.num_fields)])

    def add(self, block: bytes) -> None:
        """Looks at a block. Raises DataError where a field contradicts what was seen before, or fields are too many."""
        if block.isspace():
            return
        check_lines(block, line_ends(block))
        done = 0
        while done < len(block):
            rest = block[done:] if done else block
            done += self._add_known(rest) if self._settled else self._add_new(rest)

    def _add_known(self, block: bytes) -> int:
        """Counts rows of known fields and types. Returns how many bytes of the block they are."""
        done = 0
        for part in rows_at_once(block, line_ends(block), count_fields(fields_of(self._kind))):
            self._settled = self._has_nothing_new(part)
            if not self._settled:
                break
            done += len(part)
        return done

    def _add_new(self, block: bytes) -> int:
        """Looks at rows until some show nothing new. Returns how many bytes of the block they are."""
        done = 0
        for piece in pieces(block):
            before = self._kind
            self._take(*self._guess(piece))
            done += len(piece)
            self._settled = before.num_fields > 0 and before.equals(self._kind)
            if self._settled:
                break
        return done

    def _has_nothing_new(self, part: bytes) -> bool:
        """Counts a part whose fields and types are known; False if they are not, or not all."""
        known = self._only is not None and self._only <= set(self.schema.names)
        try:
            table = _parse(part, self.schema, "ignore" if known else "error")
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return False
        self._take(*_exact(part, table, self.rows, self._declared))
        return True

    def _guess(self, block: bytes) -> tuple[pa.Table, pa.DataType]:
        """A block's rows, and the type of an object of it; strings that look like times are strings."""
        schema = pa.schema(list(self._declared.items())) if self._declared else None
        known = self._only is not None and self._only <= set(self._declared)
        try:
            try:
                table = _parse(block, schema, "ignore" if known else "infer")
            except pa.ArrowInvalid:
                if self._only is None or known:
                    raise
                block = _narrowed(block, self._only)
                table = _parse(block, schema)
        except pa.ArrowInvalid as error:
            said = _changed(error, self.rows, self._declared) or _unheld(error, block, schema or ())
            raise said or _said(error, self.rows) from error
        except pa.ArrowNotImplementedError as error:
            raise DataError(
                f"a declared type that JSON has no values of ({_words(error)})",
                allowed="numbers, strings, booleans, times, lists and structs",
                todo="declare the field as string or int64, and convert it in a Prep",
            ) from error
        if self._only is not None:
            table = table.select([name for name in table.schema.names if name in self._only])
        check_shape(table.schema)
        return _exact(block, table, self.rows, self._declared)

    def _take(self, table: pa.Table, kind: pa.DataType) -> None:
        merged = wider(self._kind, kind, "jsonl")
        if merged is None:
            found = differing(self._kind, kind, new=False)
            assert found is not None
            raise contradicts(*found, rows=(self.rows, self.rows + table.num_rows))
        if merged is not self._kind:
            check_shape(fields_of(merged))
        self._kind = merged
        self.rows, self.bytes = self.rows + table.num_rows, self.bytes + table.nbytes


def read(stream: Any, schema: pa.Schema, strict: bool) -> Iterator[pa.Table]:
    """The rows of a unit, a table a block.

    Args:
        schema: the columns wanted, with their types.
        strict: whether a field that is not in `schema` is an error; if not, it is left out.

    Raises:
        DataError: a line is no JSON object, or contradicts the schema, or a whole number in a column of fractions
            would be rounded; the field is named.
    """
    kind = pa.struct(list(schema))
    doubles, fields = has_double(kind), count_fields(schema)
    rows = 0
    for block in _parsable(stream, fields):
        if doubles:
            _check_exact(block, kind)
        try:
            table = _parse(block, schema, "error" if strict else "ignore")
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise _explained(error, block, kind, rows, strict) from error
        _check_text(table, rows)
        rows += table.num_rows
        yield table


def _parsable(stream: Any, fields: int) -> Iterator[bytes]:
    """The blocks of a stream, in pieces that the parser survives."""
    for block in blocks(stream):
        if block.isspace():
            continue
        ends = line_ends(block)
        check_lines(block, ends)
        yield from rows_at_once(block, ends, fields)


def _parse(block: bytes, schema: pa.Schema | None, unexpected: str = "infer") -> pa.Table:
    table = parsed(block, schema, unexpected)
    if unexpected == "infer" and not _is_whole(table):
        declared = {} if schema is None else {field.name: field.type for field in schema}
        table = parsed(block, pa.schema(list(_plain(table, declared))), unexpected)
    columns = [recast(one, one.type) if lists_nulls(one.type) else one for one in table.columns]
    return pa.Table.from_arrays(columns, schema=table.schema)


def parsed(block: bytes, schema: pa.Schema | None, unexpected: str) -> pa.Table:
    """The objects of a block as pyarrow reads them, with all of its errors.

    Raises:
        DataError: the first is null, which the parser does not survive.
    """
    check_no_null(block)
    return pajson.read_json(
        pa.BufferReader(block),
        pajson.ReadOptions(use_threads=False, block_size=len(block) + 1),
        pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected),
    )


def _is_whole(table: pa.Table) -> bool:
    """Whether all was kept: pyarrow forgets nulls in a list that come before the first value that shows their type."""
    try:
        table.validate()
    except pa.ArrowInvalid:
        return False
    return True


def _narrowed(block: bytes, only: Collection[str]) -> bytes:
    """The rows of a block with some of their fields. Its other fields contradict each other, which pyarrow's parser
    takes for damage."""
    rows = []
    for line in block.splitlines():
        try:
            row = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):  # the parser will say it better
            return block
        if isinstance(row, dict):
            rows.append(json.dumps({name: value for name, value in row.items() if name in only}).encode())
        elif row is not None:
            return block
    return b"\n".join(rows)


def _plain(table: pa.Table, declared: Mapping[str, pa.DataType]) -> pa.DataType:
    """The type of an object of the rows, without times that nobody has declared."""
    fields = _no_times(pa.struct(list(table.schema)))
    return pa.struct([(field.name, declared.get(field.name, field.type)) for field in fields])


def _exact(
    block: bytes, table: pa.Table, rows: int, declared: Mapping[str, pa.DataType]
) -> tuple[pa.Table, pa.DataType]:
    """Rows that were parsed, and the type of an object of them that changes no number."""
    _check_text(table, rows)
    kind = _plain(table, declared)
    if has_double(kind):
        for path in sorted({path for path, _ in json_paths(block)}):
            if path.split(".")[0].removesuffix("[]") not in declared:
                kind = _longer(block, kind, path)
        _check_exact(block, kind)
    return table, kind


def _longer(block: bytes, kind: pa.DataType, path: str) -> pa.DataType:
    """The type with whole numbers beyond 64 bit at `path`, if there are only whole numbers."""
    exact = _replaced(kind, path, "")
    try:
        _parse(block, pa.schema(list(exact)), "infer")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return kind
    return exact


def _replaced(kind: pa.DataType, path: str, here: str) -> pa.DataType:
    if pa.types.is_struct(kind):
        fields = [(f.name, _replaced(f.type, path, f"{here}.{f.name}" if here else f.name)) for f in kind]
        return pa.struct(fields)
    if pa.types.is_list(kind):
        return pa.list_(_replaced(kind.value_type, path, f"{here}[]"))
    return LONG if here == path and pa.types.is_float64(kind) else kind


def _no_times(kind: pa.DataType) -> pa.DataType:
    """The type with strings where pyarrow saw times: JSON has none, and '2020-01-01' is not '2020-01-01T00:00'."""
    if pa.types.is_struct(kind):
        return pa.struct([(f.name, _no_times(f.type)) for f in kind])
    if pa.types.is_list(kind):
        return pa.list_(_no_times(kind.value_type))
    return pa.string() if pa.types.is_temporal(kind) else kind


def _check_text(table: pa.Table, rows: int) -> None:
    for name, column in zip(table.schema.names, table.columns, strict=True):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            words = _words(error).rpartition("Invalid: ")[2]
            raise DataError(
                f"column '{name}': {words} (rows {rows} to {rows + table.num_rows - 1})",
                allowed="text in UTF-8",
                todo="convert the file to UTF-8",
            ) from error


def _check_exact(block: bytes, kind: pa.DataType) -> None:
    """Raises DataError for a whole number that its column's double would change."""
    for path, value in json_paths(block):
        if pa.types.is_float64(_at(kind, path)):
            raise rounded(path, value)


def _at(kind: pa.DataType, path: str) -> pa.DataType:
    """The type at a path; null where there is none."""
    found = [kind]
    _walk(kind, "", path, found)
    return found[-1] if len(found) > 1 else pa.null()


def _walk(kind: pa.DataType, here: str, path: str, found: list[pa.DataType]) -> None:
    if here and here == path:
        found.append(kind)
    elif pa.types.is_struct(kind):
        for field in kind:
            _walk(field.type, f"{here}.{field.name}" if here else field.name, path, found)
    elif pa.types.is_list(kind):
        _walk(kind.value_type, f"{here}[]", path, found)


# -- what is said ----------------------------------------------------------------------------------------------------


def _explained(error: Exception, block: bytes, kind: pa.DataType, rows: int, strict: bool) -> DataError:
    """What a block has that the schema has not."""
    guess = Guess(rows)
    try:
        guess.add(block)
    except DataError as said:
        return said
    found = differing(kind, guess.kind, new=strict)
    if found is None:
        return _unheld(error, block, kind) or _said(error, rows)
    return contradicts(*found, rows=(rows, guess.rows))


def _changed(error: Exception, rows: int, declared: Mapping[str, pa.DataType]) -> DataError | None:
    """What is said of a value that is not as its field is declared, or was before; None of any other error."""
    changed = _CHANGED.search(_words(error))
    if changed is None:
        return None
    path, field, before, here, row = changed.groups()
    place = f"in row {rows + int(row)} of the unit" if row else "in the unit"
    if field not in declared:
        whole = path.replace("/[]", "[]").replace("/", ".")
        return DataError(
            f"the field '{whole}' is a JSON {here} {place}, and a {before} before",
            allowed="for each field one type",
            todo=f"leave '{field}' out with columns=, or bring the lines to one type",
        )
    return DataError(
        f"the field '{field}' is declared as {declared[field]}, which JSON's {here} {place} is not",
        allowed="values that are read as the declared type",
        todo="mend the line, or declare what the lines have (days such as \"2024-01-31\" as 'timestamp[s]', numbers in "
        "quotes as 'string'), and convert it in a Prep",
    )


def _unheld(error: Exception, block: bytes, fields: Iterable[pa.Field]) -> DataError | None:
    """What is said of a value that its field's type does not hold; None of any other error. pyarrow's words do not name
    the field, so each is read alone."""
    if of_error(error) is not Trouble.UNHELD:
        return None
    for field in fields:
        try:
            parsed(block, pa.schema([field]), "ignore")
        except pa.ArrowInvalid as alone:
            return DataError(
                f"the field '{field.name}' has a value that {field.type} does not hold (JSON: {_words(alone)})",
                allowed="values that are read as the declared type",
                todo="mend the line, or declare another type with schema=",
            )
    return None


def _said(error: Exception, rows: int) -> DataError:
    words = _words(error).removeprefix("JSON parse error: ")
    row = _ROW.search(words)
    if row is not None:
        words = f"{words[: row.start()]} in row {rows + int(row[1])} of the unit"
    if of_error(error) is Trouble.NO_OBJECT:
        return DataError(
            f"a line that is no JSON object ({words})",
            allowed="a JSON object on each line",
            todo="write one object a line; a file that is one JSON array must be converted",
        )
    return DataError(
        f"it cannot be decoded (JSON: {words})",
        allowed="a JSON object on each line, with one type for each field",
        todo="mend the line, or give format= if the ending misleads",
    )


def _words(error: Exception) -> str:
    return " ".join(str(error).split())
