"""How deep and how wide a schema may be, so that no walk through it ends the process."""

from __future__ import annotations

import pyarrow as pa

from runner.data.limits import beyond, limits
from runner.data.values.types import fields_of, types
from runner.errors import DataError


def check_shape(fields: pa.Schema | list[pa.Field]) -> None:
    """Raise DataError if columns are nested deeper, or are more, than the limits say, a name is no text, or a list has
    less than no items."""
    _check_names(fields)
    _check_sizes(fields)
    most = limits()
    depth, name = deepest(fields)
    if depth > most.nesting:
        raise beyond("nesting", f"column '{name}': {depth} lists, structs and maps inside each other")
    count = count_fields(fields)
    if count > most.fields:
        raise beyond("fields", f"{count:,} columns and fields")


def deepest(fields: pa.Schema | list[pa.Field]) -> tuple[int, str]:
    """How many lists, structs and maps are nested in each other, and the column in which they are."""
    found, waiting = (0, ""), [(field.type, 0, field.name) for field in fields]
    while waiting:  # no recursion: it may be thousands
        kind, depth, name = waiting.pop()
        if isinstance(kind, pa.BaseExtensionType):
            waiting.append((kind.storage_type, depth, name))
        elif types.is_dictionary(kind) or types.is_run_end_encoded(kind):
            waiting.append((kind.value_type, depth, name))
        elif types.is_nested(kind):
            found = max(found, (depth + 1, name))
            waiting += [(field.type, depth + 1, name) for field in fields_of(kind)]
    return found


def count_fields(fields: pa.Schema | list[pa.Field]) -> int:
    """Columns, and fields inside columns."""
    count, waiting = 0, [field.type for field in fields]
    while waiting:
        kind = waiting.pop()
        count += 1
        if types.is_nested(kind):
            waiting += [field.type for field in fields_of(kind)]
    return count


def _check_names(fields: pa.Schema | list[pa.Field]) -> None:
    """Formats say that names are UTF-8, and pyarrow believes them until it is asked for one."""
    waiting = [(field.type, _name(field, "")) for field in fields]
    while waiting:
        kind, column = waiting.pop()
        inner = fields_of(kind) if types.is_nested(kind) else []
        if types.is_struct(kind) or types.is_union(kind):  # the names inside lists and maps are not kept
            for field in inner:
                _name(field, column)
        waiting += [(field.type, column) for field in inner]


def _check_sizes(fields: pa.Schema | list[pa.Field]) -> None:
    """pyarrow believes what a file says of the size of lists, until it is asked for their type."""
    waiting = [(field.type, field.name) for field in fields]
    while waiting:
        kind, column = waiting.pop()
        if isinstance(kind, pa.BaseExtensionType):
            waiting.append((kind.storage_type, column))
        elif types.is_dictionary(kind) or types.is_run_end_encoded(kind):
            waiting.append((kind.value_type, column))
        elif types.is_nested(kind):
            if types.is_fixed_size_list(kind) and kind.list_size < 0:
                raise DataError(
                    f"column '{column}': lists of {kind.list_size} items",
                    allowed="lists of a fixed size of 0 or more",
                    todo="write the file anew",
                )
            waiting += [(field.type, column) for field in fields_of(kind)]


def _name(field: pa.Field, column: str) -> str:
    try:
        return str(field.name)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{f'column {column!r}: ' if column else ''}a field's name that is no UTF-8: {error.object!r}",
            allowed="names in UTF-8, as the format says",
            todo="write the file anew",
        ) from error
