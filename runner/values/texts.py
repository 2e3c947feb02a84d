"""A text as a value of a declared type: the one rule by which ``--set name=text`` is read (see docs/cli.md)."""

from __future__ import annotations

import ast
import collections.abc
import datetime
import decimal
import enum
import fractions
import functools
import importlib
import inspect
import json
import operator
import pathlib
import re
import typing
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from runner.errors import listed
from runner.values import hints, kinds, records
from runner.values.hints import bare, fitted, is_open, members

_TRUE, _FALSE, _NONE = ("true", "yes", "on", "1"), ("false", "no", "off", "0"), ("none", "null")
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_SPAN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)?\s*")
_UNITS = {None: 1.0, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Unreadable(Exception):
    """A text is no value of the type."""


def read(text: str, hint: Any) -> Any:
    """The value of type `hint` that a text means.

    A union is read as its most special member that takes the text: None before numbers, numbers before text.

    Raises:
        Unreadable: it is no such value.
    """
    options = members(hint)
    for option in sorted(options, key=_generality):
        try:
            return _read_one(text, bare(option))
        except (Unreadable, ValueError, ArithmeticError):
            continue
    raise Unreadable(text)


def converted(value: Any, hint: Any) -> Any:
    """A value of Python or JSON as the declared type: a list where a tuple is declared, a text where it can be read.

    Raises:
        Unreadable: it is no such value.
    """
    try:
        found = fitted(value, hint)
        wanted = {bare(option) for option in members(hint)}
        return float(found) if type(found) is int and float in wanted and not wanted & {int, Any} else found
    except hints.Misfit:
        pass
    if isinstance(value, str):
        return read(value, hint)
    for option in sorted(members(hint), key=_generality):
        try:
            return _converted_one(value, bare(option))
        except (Unreadable, ValueError, TypeError, ArithmeticError):
            continue
    raise Unreadable(value)


def allowed(hint: Any) -> str:
    """What may be written for the type."""
    words = f"a value of type {hints.shown(hint)}"
    for option in members(hint):
        if isinstance(option, type) and issubclass(option, enum.Enum):
            words += f": {listed(member.name for member in option)}"
        if typing.get_origin(option) is typing.Literal:
            words += f": {', '.join(map(repr, typing.get_args(option)))}"
    return words


def _generality(hint: Any) -> int:
    """The order in which members of a union are tried: whoever takes fewer texts first."""
    hint = bare(hint)
    if hint is None or hint is type(None):
        return 0
    ranks: list[tuple[Any, int]] = [(bool, 2), (int, 3), (float, 4), (complex, 5)]
    for cls, rank in ranks:
        if hint is cls:
            return rank
    if is_open(hint):
        return 9
    if hint in (str, bytes):
        return 10
    if isinstance(hint, type) and issubclass(hint, pathlib.PurePath):
        return 8
    return 1 if typing.get_origin(hint) is typing.Literal or isinstance(hint, type) else 6


def _read_one(text: str, hint: Any) -> Any:
    if is_open(hint):
        return _read_any(text)
    if hint is None or hint is type(None):
        return _found(None, text.strip().lower() in _NONE, text)
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return _read_literal(text, typing.get_args(hint))
    if origin is type:
        return _read_class(text, typing.get_args(hint)[0])
    kind = origin or hint
    if not isinstance(kind, type):
        raise Unreadable(text)
    if f"{kind.__module__}.{kind.__qualname__}" in kinds.FOREIGN_TEXTS:
        return _read_foreign(text, kind)
    if kind in _SCALARS:
        return _SCALARS[kind](text)
    if issubclass(kind, enum.Enum):
        return _read_enum(text, kind)
    if issubclass(kind, pathlib.PurePath):
        return kind(text)
    if records.is_record_class(kind):
        return _read_record(text, kind)
    named = issubclass(kind, tuple) and hasattr(kind, "_fields") and text.strip()[:1] == "{"
    if issubclass(kind, collections.abc.Mapping) or typing.is_typeddict(hint) or named:
        return _read_mapping(text, hint)
    if issubclass(kind, collections.abc.Collection) or kind is collections.abc.Iterable:
        return _read_items(text, hint)
    if issubclass(kind, str):
        return kind(text)
    raise Unreadable(text)


def _found(value: Any, good: bool, text: Any) -> Any:
    if not good:
        raise Unreadable(text)
    return value


# -- one value -------------------------------------------------------------------------------------------------------


def _read_bool(text: str) -> bool:
    word = text.strip().lower()
    return bool(_found(word in _TRUE, word in _TRUE + _FALSE, text))


def _read_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        number = float(text)
        return int(_found(number, number.is_integer() and abs(number) < 2**53, text))


def _read_span(text: str) -> datetime.timedelta:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise Unreadable(text)
    return datetime.timedelta(seconds=float(match[1]) * _UNITS[match[2]])


_SCALARS: dict[type, Callable[[str], Any]] = {
    bool: _read_bool,
    int: _read_int,
    float: float,
    complex: complex,
    str: str,
    bytes: str.encode,
    decimal.Decimal: decimal.Decimal,
    fractions.Fraction: fractions.Fraction,
    uuid.UUID: uuid.UUID,
    datetime.datetime: datetime.datetime.fromisoformat,
    datetime.date: datetime.date.fromisoformat,
    datetime.time: datetime.time.fromisoformat,
    datetime.timedelta: _read_span,
}


def _read_enum(text: str, cls: type[enum.Enum]) -> enum.Enum:
    """A member by its name, by its value, by its name in other capitals."""
    word = text.strip()
    if issubclass(cls, enum.Flag) and "|" in word:
        return functools.reduce(operator.or_, (_read_enum(part, cls) for part in word.split("|")))
    if word in cls.__members__:
        return cls[word]
    for member in cls:
        if str(member.value) == word:
            return member
    same = [member for name, member in cls.__members__.items() if name.lower() == word.lower()]
    return _found(same[0] if same else None, bool(same), text)


def _read_literal(text: str, parts: tuple[Any, ...]) -> Any:
    for part in parts:
        if (
            text == part
            or (part is None and text.strip().lower() in _NONE)
            or text.strip() == str(part.value if isinstance(part, enum.Enum) else part)
        ):
            return part
    raise Unreadable(text)


def _read_class(text: str, base: Any) -> type:
    """A class by its name: the declared one, or one derived from it."""
    for option in (base, *_derived(base)) if isinstance(base, type) else ():
        if option.__name__ == text.strip():
            return option
    raise Unreadable(text)


def _read_foreign(text: str, kind: type) -> Any:
    """A value of a library that is made from its text, such as a dtype of torch."""
    module, make = kinds.FOREIGN_TEXTS[f"{kind.__module__}.{kind.__qualname__}"]
    try:
        made = make(importlib.import_module(module), text.strip())
    except Exception as error:  # whatever the library says
        raise Unreadable(text) from error
    return _found(made, isinstance(made, kind), text)


def _read_any(text: str) -> Any:
    """A value of JSON or of Python where the text is one, else the text itself."""
    word = text.strip()
    if word.lower() in _NONE:
        return None
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    value = _as_code(word)
    return text if value is _NOTHING else value


_NOTHING = object()


def _as_code(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return _NOTHING


# -- several ---------------------------------------------------------------------------------------------------------


def _read_items(text: str, hint: Any) -> Any:
    """``[1, 2]``, ``(1, 2)`` or ``1,2``."""
    word = text.strip()
    if word[:1] in ("[", "(", "{"):
        value = _as_code(word)
        if isinstance(value, list | tuple | set):
            try:
                return _converted_one(value, hint)
            except (Unreadable, ValueError, TypeError):
                pass  # bare words in brackets: read below, item by item
    return _converted_one(list(_split(_inside(word))), hint)


def _read_mapping(text: str, hint: Any) -> Any:
    """``{"a": 1}`` or ``a:1,b:2``."""
    word = text.strip()
    value = _as_code(word) if word[:1] == "{" else _NOTHING
    if isinstance(value, dict):
        return _converted_one(value, hint)
    pairs = [item.partition(":") for item in _split(_inside(word))]
    if not all(colon for _, colon, _ in pairs):
        raise Unreadable(text)
    return _converted_one({_unquoted(key.strip()): part.strip() for key, _, part in pairs}, hint)


def _inside(word: str) -> str:
    """Without the brackets around all of it; those of ``(a,1),(b,2)`` are around its items."""
    if not (word[:1] in _BRACKETS and word.endswith(_BRACKETS[word[0]])):
        return word
    return word[1:-1] if _closes(word) == len(word) - 1 else word


def _closes(word: str) -> int:
    """The place where the first bracket of a text is closed; -1 if it never is."""
    depth, quote = 0, ""
    for place, sign in enumerate(word):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        elif sign in _BRACKETS:
            depth += 1
        elif sign in _BRACKETS.values():
            depth -= 1
            if depth == 0:
                return place
    return -1


def _split(text: str) -> Iterator[str]:
    """Items between commas that stand in no brackets and no quotes, without quotes around them."""
    if not text.strip():
        return
    depth, quote, start = 0, "", 0
    for place, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        elif sign in "[({":
            depth += 1
        elif sign in "])}":
            depth -= 1
        elif sign == "," and depth == 0:
            yield _unquoted(text[start:place].strip())
            start = place + 1
    if text[start:].strip():
        yield _unquoted(text[start:].strip())


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _converted_one(value: Any, hint: Any) -> Any:
    """A container of values as the declared container of the declared values."""
    kind = typing.get_origin(hint) or hint
    if not isinstance(kind, type):
        raise Unreadable(value)
    if kind in (float, complex) and isinstance(value, int | float):
        return kind(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _named_tuple(value, kind)
    if isinstance(value, dict):
        return _converted_mapping(value, hint, kind)
    if not isinstance(value, list | tuple | set | frozenset):
        raise Unreadable(value)
    parts, items = typing.get_args(hint), list(value)
    made = next((cls for cls in (list, tuple, set, frozenset) if issubclass(cls, kind)), None)
    if made is None or (kind is str):
        raise Unreadable(value)
    if kind is tuple and parts and parts[-1] is not Ellipsis:
        _found(None, len(parts) == len(items), value)
        return tuple(converted(item, part) for item, part in zip(items, parts, strict=True))
    return made(_item(item, parts[0] if parts else Any) for item in items)


def _named_tuple(value: Any, kind: Any) -> Any:
    """A named tuple of its fields in their order, or by their names; those that are left out have their defaults."""
    if isinstance(value, list | tuple) and len(value) <= len(kind._fields):
        value = dict(zip(kind._fields, value, strict=False))
    if not isinstance(value, dict) or not set(value) <= set(kind._fields):
        raise Unreadable(value)
    return kind(**{name: converted(part, records.hint(kind, name)) for name, part in value.items()})


def _item(value: Any, hint: Any) -> Any:
    """An item of a container. Where nothing is declared a text may be a number, as `_read_any` has it."""
    return _read_any(value) if isinstance(value, str) and is_open(hint) else converted(value, hint)


def _converted_mapping(value: dict[Any, Any], hint: Any, kind: type) -> Any:
    if records.is_record_class(kind):
        return of_fields(value, kind)
    if typing.is_typeddict(hint):
        declared = typing.get_type_hints(hint)
        return {key: converted(part, declared.get(key, Any)) for key, part in value.items()}
    if not issubclass(dict, kind):
        raise Unreadable(value)
    key_hint, part_hint = typing.get_args(hint) or (Any, Any)
    return {_key(key, key_hint): _item(part, part_hint) for key, part in value.items()}


def _key(key: Any, hint: Any) -> Any:
    return key if is_open(hint) else converted(key, hint)


# -- objects with fields ---------------------------------------------------------------------------------------------


def _read_record(text: str, cls: type) -> Any:
    """``{"layers": 9}``: one with these fields; ``Sgd``: the class of that name, or one derived from it, as it is."""
    word = text.strip()
    if word[:1] == "{":
        value = _as_code(word)
        return of_fields(_found(value, isinstance(value, dict), text), cls)
    for option in (cls, *_derived(cls)):
        if option.__name__ == word and not inspect.isabstract(option):
            return of_fields({}, option)
    raise Unreadable(text)


def of_fields(values: dict[str, Any], cls: type) -> Any:
    """An instance with these fields, converted; the others have their defaults."""
    unknown = [name for name in values if name not in records.names(cls)]
    if unknown:
        raise Unreadable(f"{cls.__name__} has no field {listed(unknown)}")
    try:
        return cls(**{name: converted(part, records.hint(cls, name)) for name, part in values.items()})
    except TypeError as error:
        raise Unreadable(str(error)) from error


def _derived(cls: Any) -> Iterator[type]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _derived(sub)
