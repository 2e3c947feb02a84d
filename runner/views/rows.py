"""Rows as a person looks at them: long text, bytes and lists are shortened so that one sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from runner.data.values import json_text
from runner.data.values.types import types
from runner.untrusted.visible import visible
from runner.views import units

#: Characters of a text, bytes of a value and items of a list that are shown.
_CHARACTERS, _BYTES, _ITEMS = 60, 8, 5
#: Characters of all that is inside a struct or a list.
_INNER = 100
_LINE = str.maketrans({"\n": "\\n", "\t": "\\t"})


@dataclass(frozen=True)
class Rows:
    """The first rows of data.

    Args:
        name: of the data, as it was given.
        columns: (name, type) of each.
        cells: text of each value, by column.
        lines: each row as one line of JSON, with all of its values.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    cells: tuple[tuple[str, ...], ...]
    lines: tuple[str, ...]


def seen_rows(name: str, table: pa.Table) -> Rows:
    """Rows that were read."""
    whole = table.combine_chunks()
    columns = [column.chunk(0) if column.num_chunks else None for column in whole.columns]
    cells = [() if one is None else tuple(cell(one, i) for i in range(len(one))) for one in columns]
    return Rows(
        name,
        tuple((field.name, str(field.type)) for field in table.schema),
        tuple(cells),
        tuple(line for batch in table.to_batches() for line in json_text.rows(batch)),
    )


def cell(array: pa.Array, row: int) -> str:
    """One value on one line, without what a terminal obeys."""
    return visible(_shown(array.slice(row, 1))).translate(_LINE)


def _shown(one: pa.Array) -> str:
    """An array of one value."""
    kind = one.type
    if one.null_count or types.is_null(kind):
        return "null"
    if types.is_struct(kind):
        names = [field.name for field in kind]
        parts = [f"{name}: {_shown(child)}" for name, child in zip(names, one.flatten(), strict=True)]
        return _cut(f"{{{', '.join(parts)}}}", _INNER)
    if types.is_nested(kind) and not types.is_union(kind):
        return _list(one)
    value = one[0].as_py() if _is_text(kind) or _is_bytes(kind) else json_text.texts(one)[0].strip('"')
    if isinstance(value, bytes):
        return _bytes(value)
    if len(value) <= _CHARACTERS:
        return str(value)
    return f"{value[:_CHARACTERS]}… ({units.things(len(value), 'character')})"


def _list(one: pa.Array) -> str:
    if types.is_map(one.type):
        return _cut(json_text.texts(one)[0], _INNER)
    items = one.flatten()
    shown = [_shown(items.slice(i, 1)) for i in range(min(len(items), _ITEMS))]
    if len(items) > _ITEMS:
        shown.append(f"… ({units.things(len(items), 'item')})")
    return f"[{', '.join(shown)}]"


def _bytes(value: bytes) -> str:
    if len(value) <= _BYTES:
        return f"0x{value.hex()}"
    return f"0x{value[:_BYTES].hex()}… ({units.things(len(value), 'byte')})"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def _is_text(kind: pa.DataType) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    binary = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return bool(binary or types.is_fixed_size_binary(kind))


def fitting(rows: Rows, names: Sequence[str], width: int, gap: int = 2, least: int = 10) -> int:
    """How many of the first columns have room in lines of `width` characters, at least one; wide text is
    narrowed down to `least` rather than left out.
    """
    used = 0
    for i, name in enumerate(names):
        widest = max([len(name), *map(len, rows.cells[i])])
        used += (widest if is_number(rows.columns[i][1]) else min(widest, max(least, len(name)))) + gap
        if used > width + gap:
            return max(1, i)
    return len(names)


def is_number(kind: str) -> bool:
    """Whether a type, as it is written, is of numbers: they stand at the right, and never on two lines."""
    return kind.startswith(("int", "uint", "float", "double", "halffloat", "decimal"))
