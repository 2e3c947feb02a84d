"""JSON that somebody else may have written: read within bounds, and looked at before anything is made of it.

A `Shape` says what a value must be. What does not fit raises `Misshapen`, which says where, and the reader of an object
makes a `StoreBroken` of it that names the object. So whoever has got an entry of a log, a spec or a record need not ask
again whether its fields are there, and of which kind.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from runner.errors import StoreBroken
from runner.untrusted.names import Kind
from runner.untrusted.visible import visible

Shape = Callable[[Any, str], None]

#: Levels of brackets in JSON. What walks over it calls itself for each, and Python allows a thousand such calls.
DEEPEST = 200
#: Commas, colons and brackets in JSON: a value of two bytes takes sixty in memory.
MOST_SIGNS = 4_000_000
#: Numbers that count something, or measure a span in seconds; and moments, which are before the year 10,000.
LARGEST, LAST_MOMENT = 1e18, 253402300799.0
LARGEST_INTEGER = 2**64
_SHOWN = 60


class Misshapen(ValueError):
    """A value is not of its shape; the text says where and what."""


# -- reading ---------------------------------------------------------------------------------------------------------


def read(data: bytes | str, shape: Shape, where: str) -> Any:
    """The value that JSON holds.

    Args:
        where: the full path of its object.

    Raises:
        StoreBroken: it is no JSON, or not of that shape.
    """
    try:
        value = loads(data)
        shape(value, "")
    except Misshapen as error:
        raise broken(where, str(error)) from None
    return value


def broken(where: str, found: str) -> StoreBroken:
    """The error for an object that is not as runner writes it.

    Args:
        where: its full path.
        found: what is wrong with it.
    """
    return StoreBroken(
        found,
        allowed="what runner has written there",
        todo="restore it from a copy, or remove it",
        where=visible(where),
    )


def loads(data: bytes | str) -> Any:
    """The value that JSON holds. Raises Misshapen for what is none, what is nested too deep and what has too many
    parts.
    """
    if signs(data) > MOST_SIGNS:
        raise Misshapen(f"JSON of more than {MOST_SIGNS:,} commas, colons and brackets")
    try:
        value = json.loads(data)
    except RecursionError:
        raise Misshapen("JSON that is nested too deep") from None
    except ValueError as error:  # also text that is no UTF-8, and integers of too many digits
        raise Misshapen(f"no JSON: {error}") from None
    if _brackets(data) > DEEPEST and _is_deep(value):
        raise Misshapen(f"JSON that is nested deeper than {DEEPEST} levels")
    return value


def signs(data: bytes | str) -> int:
    """How many values JSON can hold at most, roughly: its commas, colons and opening brackets."""
    few: int = data.count(",") + data.count(":") if isinstance(data, str) else data.count(b",") + data.count(b":")
    return few + _brackets(data)


def _brackets(data: bytes | str) -> int:
    return data.count("[") + data.count("{") if isinstance(data, str) else data.count(b"[") + data.count(b"{")


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [part for each in level for part in _parts(each)]
        if not level:
            return False
    return True


def _parts(value: Any) -> list[Any]:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [part for part in parts if isinstance(part, dict | list)]


# -- shapes ----------------------------------------------------------------------------------------------------------


def anything(value: Any, at: str) -> None:
    """Whatever JSON can hold."""


def text(value: Any, at: str) -> None:
    """A string that can be written as UTF-8."""
    if not isinstance(value, str):
        raise _wrong(value, at, "text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _wrong(value, at, "text of whole characters") from None


def flag(value: Any, at: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise _wrong(value, at, "true or false")


def value(value: Any, at: str) -> None:
    """A number that a user has measured, which may be NaN or infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(value, at, "a number")
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise _wrong(value, at, "a number of at most 64 bits, or a fraction")


def named(kind: Kind) -> Shape:
    """A name of that kind."""

    def shape(value: Any, at: str) -> None:
        if not kind.fits(value):
            raise _wrong(value, at, f"a {kind.what}: {kind.words}")

    return shape


def number(least: float = 0.0, most: float = LARGEST) -> Shape:
    """A finite number within bounds."""

    def shape(value: Any, at: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise _wrong(value, at, f"a number from {least:g} to {most:g}")

    return shape


def whole(least: int = 0, most: int = int(LARGEST)) -> Shape:
    """A whole number within bounds."""

    def shape(value: Any, at: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise _wrong(value, at, f"a whole number from {least} to {most}")

    return shape


#: Seconds since 1970; a count.
moment, count = number(0.0, LAST_MOMENT), whole()


def one_of(*words: str) -> Shape:
    """One of a few words."""

    def shape(value: Any, at: str) -> None:
        if not isinstance(value, str) or value not in words:
            raise _wrong(value, at, f"one of {', '.join(words)}")

    return shape


def maybe(shape: Shape) -> Shape:
    """That, or null."""

    def both(value: Any, at: str) -> None:
        if value is not None:
            shape(value, at)

    return both


def several(shape: Shape) -> Shape:
    """A list of these."""

    def each(value: Any, at: str) -> None:
        if not isinstance(value, list):
            raise _wrong(value, at, "a list")
        for number, part in enumerate(value):
            shape(part, f"{at}[{number}]")

    return each


def tuple_of(*shapes: Shape) -> Shape:
    """A list of as many parts, each of its own shape."""

    def each(value: Any, at: str) -> None:
        if not isinstance(value, list) or len(value) != len(shapes):
            raise _wrong(value, at, f"a list of {len(shapes)} parts")
        for number, (shape, part) in enumerate(zip(shapes, value, strict=True)):
            shape(part, f"{at}[{number}]")

    return each


def mapping(shape: Shape, keys: Shape = text) -> Shape:
    """An object with any number of these, under keys of that shape."""

    def each(value: Any, at: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(value, at, "an object")
        for key, part in value.items():
            keys(key, f"{at}, a key")
            shape(part, _below(at, key))

    return each


def record(needed: Mapping[str, Shape], known: Mapping[str, Shape] | None = None) -> Shape:
    """An object with fields; further ones may be there, as a newer runner may write them.

    Args:
        needed: fields that must be there.
        known: fields that may be.
    """
    fields = {**needed, **(known or {})}

    def each(value: Any, at: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(value, at, "an object")
        for name in needed:
            if name not in value:
                raise Misshapen(f"'{_below(at, name)}' is missing")
        for name, part in value.items():
            if name in fields:
                fields[name](part, _below(at, name))

    return each


def _below(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key


def _wrong(value: Any, at: str, wanted: str) -> Misshapen:
    shown = visible(repr(value) if isinstance(value, str | bool | float | None) else type(value).__name__)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST:
        shown = str(value)
    shown = shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
    return Misshapen(f"{at or 'the whole'} is {shown}, not {wanted}")
