"""Types that are guessed from text (JSON lines, CSV), and how two guesses become one without changing a value."""

from __future__ import annotations

import pyarrow as pa

from runner.errors import DataError

#: Whole numbers beyond 64 bit.
LONG = pa.decimal128(38, 0)
_NEW = "no such field"

_TIMES = (
    (pa.date32(), pa.timestamp("s")),
    (pa.date32(), pa.timestamp("ns")),
    (pa.timestamp("s"), pa.timestamp("ns")),
    (pa.timestamp("s", "UTC"), pa.timestamp("ns", "UTC")),
)


def wider(a: pa.DataType, b: pa.DataType, format: str) -> pa.DataType | None:
    """The type that holds the values of both guesses; None where they contradict each other.

    Text of a CSV file can always be kept as it stands, so there nothing contradicts. A field of JSON is a number, a
    string, a boolean, a list or an object throughout; a number is double as soon as one has a fraction (whole numbers
    that a double would change are then found when the rows are read).
    """
    if a.equals(b) or pa.types.is_null(b):
        return a
    if pa.types.is_null(a):
        return b
    if format == "csv":
        return _wider_text(a, b)
    if pa.types.is_struct(a) and pa.types.is_struct(b):
        return _wider_struct(a, b, format)
    if pa.types.is_list(a) and pa.types.is_list(b):
        item = wider(a.value_type, b.value_type, format)
        return None if item is None else pa.list_(item)
    return _wider_number(a, b)


def _wider_text(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    if pa.types.is_binary(a) or pa.types.is_binary(b):
        return pa.binary()
    if {a, b} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if {a, b} == {pa.int64(), LONG}:
        return LONG
    for narrow, wide in _TIMES:
        if {a, b} == {narrow, wide}:
            return wide
    return pa.string()


def _wider_number(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    kinds = {a, b}
    if not kinds <= {pa.int64(), LONG, pa.float64()}:
        return None
    return pa.float64() if pa.float64() in kinds else LONG


def _wider_struct(a: pa.DataType, b: pa.DataType, format: str) -> pa.DataType | None:
    fields = {f.name: f.type for f in a}
    for field in b:
        kind = wider(fields[field.name], field.type, format) if field.name in fields else field.type
        if kind is None:
            return None
        fields[field.name] = kind
    return pa.struct(list(fields.items()))


def differing(known: pa.DataType, other: pa.DataType, new: bool, path: str = "") -> tuple[str, str, str] | None:
    """Where a type of JSON lines does not fit into the one that is known.

    Args:
        new: whether a field that `known` has not is such a place.

    Returns:
        (path, type here, type known or 'no such field'), or None.
    """
    if pa.types.is_struct(known) and pa.types.is_struct(other):
        fields = {f.name: f.type for f in known}
        for field in other:
            inner = f"{path}.{field.name}" if path else field.name
            if field.name in fields:
                found = differing(fields[field.name], field.type, new, inner)
            else:
                found = (inner, str(field.type), _NEW) if new else None
            if found is not None:
                return found
        return None
    if pa.types.is_list(known) and pa.types.is_list(other):
        return differing(known.value_type, other.value_type, new, f"{path}[]")
    both = wider(known, other, "jsonl")
    return None if both is not None and both.equals(known) else (path, str(other), str(known))


def contradicts(path: str, here: str, known: str, rows: tuple[int, int]) -> DataError:
    """What `differing` found, as an error."""
    found = f"the field '{path}' is new" if known == _NEW else f"the field '{path}' is {here}, and {known} before"
    return DataError(
        f"{found} (rows {rows[0]} to {rows[1] - 1} of the unit)",
        allowed="for each field one type, which the start of each unit shows where the data is large",
        todo=f"leave '{path.split('.')[0].removesuffix('[]')}' out with columns=, declare its type with schema=, "
        "or bring the lines to one type",
    )


def has_double(kind: pa.DataType) -> bool:
    """Whether a double is in it, at any depth."""
    if pa.types.is_nested(kind):
        return any(has_double(kind.field(i).type) for i in range(kind.num_fields))
    return bool(pa.types.is_float64(kind))
