"""Types of columns by name, as Arrow writes them: what `Dataset(schema=)` declares, and the way back."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from runner.errors import SpecError
from runner.spec.checks import Fields

if TYPE_CHECKING:
    import pyarrow as pa

_WORDS = (
    "null, bool, int8 to int64, uint8 to uint64, halffloat, float, double, decimal128(10, 2), string, binary, "
    "fixed_size_binary[16], date32[day], time64[us], timestamp[us], timestamp[us, tz=UTC], duration[ms], list<int32>, "
    "fixed_size_list<float>[8], struct<a: int64, b: string>, map<string, double>"
)
_DEEPEST = 100
_NAME = re.compile(r"[a-z_]+[0-9]*")
_DECIMAL = re.compile(r"decimal(32|64|128|256)\((\d+), ?(-?\d+)\)")
_BINARY = re.compile(r"fixed_size_binary\[(\d+)\]")
_UNIT = re.compile(r"(timestamp|duration|time32|time64|date32|date64)(?:\[(\w+)(?:, ?(?:tz=)?([^\]]+))?\])?")
_ALIASES = {"str": "string", "float64": "double", "float32": "float", "float16": "halffloat", "boolean": "bool"}


def declared(fields: Fields, field: str, given: Any) -> dict[str, str]:
    """Column -> the name of its type.

    Args:
        given: a mapping of names to types or their names, or a schema of pyarrow.

    Raises:
        SpecError: it is neither, or has a type that nobody knows.
    """
    if hasattr(given, "names") and hasattr(given, "types"):  # a pyarrow.Schema
        given = dict(zip(given.names, given.types, strict=True))
    if not isinstance(given, Mapping) or not all(isinstance(name, str) and name for name in given):
        raise fields.fail(field, given, "a schema of pyarrow, or a mapping such as {'id': 'int64', 'text': 'string'}")
    return {name: _name(fields, f"{field}[{name!r}]", kind) for name, kind in given.items()}


def _name(fields: Fields, field: str, kind: Any) -> str:
    name = str(kind)
    try:
        found = parse(name)
    except ValueError as error:
        raise fields.fail(field, name, _WORDS, f"{error}") from None
    if not isinstance(kind, str) and not found.equals(kind):
        raise fields.fail(field, name, f"a type that its name tells whole: {_WORDS}")
    return str(found)


def parse(name: str) -> pa.DataType:
    """The type of a name, as `str` of a type gives it. Raises ValueError for one that names none."""
    parser = _Parser(name)
    kind = parser.type(0)
    if parser.rest.strip():
        raise ValueError(f"what is {parser.rest.strip()[:40]!r}?")
    return kind


def of_names(names: Mapping[str, str]) -> dict[str, pa.DataType]:
    """The types of names that were checked before. Raises SpecError for one that names none."""
    try:
        return {name: parse(kind) for name, kind in names.items()}
    except ValueError as error:
        raise SpecError(f"a type: {error}", allowed=_WORDS, where="schema") from error


class _Parser:
    """Reads a type from the beginning of what is left of a text."""

    def __init__(self, text: str) -> None:
        self.rest = text

    def type(self, depth: int) -> pa.DataType:
        """The next type."""
        import pyarrow as pa

        if depth > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} types inside each other")
        self.rest = self.rest.lstrip()
        inner: dict[str, Callable[[int], pa.DataType]] = {
            "list<": self._list,
            "large_list<": self._list,
            "fixed_size_list<": self._fixed_size_list,
            "struct<": self._struct,
            "map<": self._map,
            "dictionary<values=": self._dictionary,
        }
        for start, read in inner.items():
            if self.rest.startswith(start):
                self.rest = self.rest.removeprefix(start)
                return read(depth + 1)
        if (found := self._taken(_DECIMAL)) is not None:
            try:
                return getattr(pa, f"decimal{found[1]}")(int(found[2]), int(found[3]))
            except pa.ArrowInvalid as error:
                raise ValueError(str(error)) from None
        if (found := self._taken(_BINARY)) is not None:
            return pa.binary(int(found[1]))
        if (found := self._taken(_UNIT)) is not None:
            return self._time(found)
        if (found := self._taken(_NAME)) is None:
            raise ValueError(f"no type is called {self.rest[:40]!r}")
        try:
            return pa.type_for_alias(_ALIASES.get(found[0], found[0]))
        except (ValueError, TypeError):
            raise ValueError(f"no type is called {found[0]!r}") from None

    def _taken(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.rest)
        if found is not None:
            self.rest = self.rest[found.end() :]
        return found

    def _time(self, found: re.Match[str]) -> pa.DataType:
        import pyarrow as pa

        kind, unit, zone = found[1], found[2], found[3]
        units = {"time32": ("s", "ms"), "time64": ("us", "ns"), "date32": ("day",), "date64": ("ms",)}
        allowed = units.get(kind, ("s", "ms", "us", "ns"))
        if (unit is None and not kind.startswith("date")) or (unit is not None and unit not in allowed):
            raise ValueError(f"a {kind} has a unit: {', '.join(f'{kind}[{one}]' for one in allowed)}")
        if kind.startswith("date"):
            return getattr(pa, kind)()
        if zone is not None and kind != "timestamp":
            raise ValueError(f"a {kind} has no time zone")
        return pa.timestamp(unit, zone) if kind == "timestamp" else getattr(pa, kind)(unit)

    def _list(self, depth: int) -> pa.DataType:
        import pyarrow as pa

        return pa.list_(self._items(depth))

    def _items(self, depth: int) -> pa.Field:
        """The items of a list, which need no name."""
        import pyarrow as pa

        named = re.match(r"\s*(\w+): ", self.rest)
        if named is not None:
            self.rest = self.rest[named.end() :]
        kind = self.type(depth)
        name = named[1] if named is not None else "element"
        field = pa.field(name, kind, nullable=not self._skip(" not null"))
        self._expect(">")
        return field

    def _fixed_size_list(self, depth: int) -> pa.DataType:
        import pyarrow as pa

        items = self._items(depth)
        size = self._taken(re.compile(r"\[(\d+)\]"))
        if size is None:
            raise ValueError("a fixed-size list has a size: fixed_size_list<float>[8]")
        return pa.list_(items, int(size[1]))

    def _struct(self, depth: int) -> pa.DataType:
        import pyarrow as pa

        found = []
        while not self._skip(">"):
            name, colon, rest = self.rest.partition(": ")
            if not colon:
                raise ValueError("the fields of a struct have names: struct<a: int64>")
            self.rest = rest
            kind = self.type(depth)
            found.append(pa.field(name.strip(), kind, nullable=not self._skip(" not null")))
            if not self._skip(",") and not self.rest.startswith(">"):
                raise ValueError(f"a struct that does not end: {self.rest[:40]!r}")
        return pa.struct(found)

    def _map(self, depth: int) -> pa.DataType:
        import pyarrow as pa

        key = self.type(depth)
        self._expect(",")
        item = self.type(depth)
        ordered = self._skip(", keys_sorted")
        self._taken(re.compile(r" \('\w+'(, '\w+')?\)"))  # the names of its fields, where they are unusual
        self._expect(">")
        return pa.map_(key, item, keys_sorted=ordered)

    def _dictionary(self, depth: int) -> pa.DataType:
        """A dictionary is read as its values."""
        kind = self.type(depth)
        self._taken(re.compile(r", indices=\w+, ordered=\d"))
        self._expect(">")
        return kind

    def _skip(self, word: str) -> bool:
        there = self.rest.startswith(word)
        self.rest = self.rest.removeprefix(word)
        return there

    def _expect(self, word: str) -> None:
        self.rest = self.rest.lstrip()
        if not self._skip(word):
            raise ValueError(f"{word!r} is missing before {self.rest[:40]!r}")
