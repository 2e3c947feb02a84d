"""How deep and how wide a schema may be, so that no walk through it ends the process."""

from __future__ import annotations

import pyarrow as pa

from runner.data.limits import beyond, limits
from runner.data.types import fields_of, types


def check_shape(fields: pa.Schema | list[pa.Field]) -> None:
    """Raise DataError if columns are nested deeper, or are more, than the limits say."""
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
