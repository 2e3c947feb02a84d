"""Structs in Thrift's compact encoding, as far as Parquet uses it, read strictly."""

from __future__ import annotations

from typing import Any, TypeAlias

#: Field id -> value; structs inside are such mappings, lists are lists.
Struct: TypeAlias = dict[int, Any]

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, BINARY, LIST, _SET, _MAP, STRUCT = range(1, 13)
TRUTHS, NUMBERS = (_TRUE, _FALSE), (_I32, _I64, _I16)
_DEEPEST = 8


class Malformed(ValueError):
    """The bytes are no such struct."""


def struct(data: bytes, at: int = 0, depth: int = 0) -> tuple[Struct, int]:
    """A struct, and the position behind it.

    Raises:
        Malformed: it is nested too deep, or has a field twice, which readers take for different things.
        IndexError: it goes on behind the end of `data`.
    """
    if depth > _DEEPEST:
        raise Malformed("structs nested too deep")
    found: Struct = {}
    field = 0
    while head := data[at]:
        at += 1
        kind = head & 15
        if head > 15:
            field += head >> 4
        else:
            field, at = number(data, at)
        if field in found:
            raise Malformed(f"field {field} twice")
        if kind in NUMBERS and (byte := data[at]) < 128:  # nearly all there is
            found[field], at = (byte >> 1) ^ -(byte & 1), at + 1
        elif kind == BINARY and (length := data[at]) < 128:
            at += 1 + length
            found[field] = data[at - length : at]
        else:
            found[field], at = value(data, at, kind, depth)
    return found, at + 1


def value(data: bytes, at: int, kind: int, depth: int = 0) -> tuple[Any, int]:
    """A value of a type, and the position behind it; errors as for `struct`."""
    if kind in NUMBERS:
        return number(data, at)
    if kind in TRUTHS:
        return kind == _TRUE, at
    if kind == BINARY:
        length, at = varint(data, at)
        _within(data, at + length)
        return data[at : at + length], at + length
    if kind == STRUCT:
        return struct(data, at, depth + 1)
    if kind == _BYTE:
        return data[at], at + 1
    if kind == _DOUBLE:
        _within(data, at + 8)
        return data[at : at + 8], at + 8
    if kind in (LIST, _SET):
        return _items(data, at, depth)
    raise Malformed(f"a field of type {kind}")  # Parquet has no maps


def _items(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    head = data[at]
    at += 1
    count, kind = head >> 4, head & 15
    if count == 15:
        count, at = varint(data, at)
    _within(data, at + count)  # an item has a byte at least
    items = []
    for _ in range(count):
        if kind in TRUTHS:
            item, at = data[at] == _TRUE, at + 1
        else:
            item, at = value(data, at, kind, depth + 1)
        items.append(item)
    return items, at


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number that is not negative, and the position behind it; errors as for `struct`."""
    found = shift = 0
    while True:
        byte = data[at]
        at += 1
        found |= (byte & 127) << shift
        if byte < 128:
            return found, at
        shift += 7
        if shift > 63:
            raise Malformed("a number of more than 64 bit")


def number(data: bytes, at: int) -> tuple[int, int]:
    """A number, and the position behind it; errors as for `struct`."""
    found, at = varint(data, at)
    return (found >> 1) ^ -(found & 1), at


def _within(data: bytes, end: int) -> None:
    if end > len(data):
        raise IndexError(end)
