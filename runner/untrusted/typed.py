"""JSON objects as frozen dataclasses: the annotations of a class say what its JSON holds, for its readers and writers.

@dataclass(frozen=True)
class Attempt(Record):
    leg: Annotated[int, whole(0, 9999)]
    because: str = sparse("")

Attempt.from_json({"leg": 0})            # Attempt(leg=0, because="")
Attempt.from_json({"leg": "x"})          # Misshapen: 'leg' is 'x', not a whole number from 0 to 9999
Attempt(leg=0).to_json()                 # {"leg": 0}
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from runner.untrusted.shapes import Shape, anything, count, flag, mapping, maybe, number, one_of, record, several, text
from runner.untrusted.shapes import read as read_json

T = TypeVar("T")
R = TypeVar("R", bound="Record")
_SPARSE = "sparse"
_PLAIN: Mapping[object, Shape] = {str: text, bool: flag, int: count, float: number(), Any: anything}


class Record:
    """Base of frozen dataclasses that are kept as JSON objects.

    A field without a default must be there, one with a default may be. What the object has besides is passed over, for
    a newer runner may write more. A field is annotated with str, bool, int (a count), float (finite, from 0), Any,
    Literal, another Record, `X | None`, `tuple[X, ...]`, `Mapping[str, X]`, or with `Annotated[X, shape]` where a shape
    of `shapes` says more than its type.
    """

    _laid_out: ClassVar[_Layout]

    @classmethod
    def shape(cls) -> Shape:
        """What a value must be to be read as one."""
        return _layout(cls).shape

    @classmethod
    def from_json(cls, value: Any, at: str = "") -> Self:
        """Read one. Raises Misshapen, which names the place below `at`."""
        layout = _layout(cls)
        layout.shape(value, at)
        return cls._made(value)

    @classmethod
    def _made(cls, value: Mapping[str, Any]) -> Self:
        """One of a value that is of its shape."""
        return cls(**_arguments(cls, value))

    def to_json(self) -> dict[str, Any]:
        """As it is kept; what has not been given, and need not be written, is left out."""
        found = {}
        for name, slot in _layout(type(self)).slots.items():
            value = getattr(self, slot.attribute)
            if not (slot.sparse and value == slot.default):
                found[name] = _told(value)
        return found


@dataclass(frozen=True)
class Excerpt(Record):
    """A JSON object of which only some fields are read here, kept as it is.

    Args:
        raw: all of it.
    """

    raw: Mapping[str, Any]

    @classmethod
    def _made(cls, value: Mapping[str, Any]) -> Self:
        return cls(raw=value, **_arguments(cls, value))

    def to_json(self) -> dict[str, Any]:
        """As it was read."""
        return dict(self.raw)


def sparse(default: T) -> T:
    """A field that is written only where it differs from its default."""
    made: T = field(default=default, metadata={_SPARSE: True})
    return made


@dataclass(frozen=True)
class Key:
    """In an annotation, the name of a field in JSON that Python does not allow: `Annotated[str, Key("class")]`."""

    name: str


def read(kind: type[R], data: bytes | str, where: str) -> R:
    """What JSON that somebody else may have written holds.

    Args:
        where: the full path of its object.

    Raises:
        StoreBroken: it is no JSON, or not of that shape.
    """
    return kind._made(read_json(data, kind.shape(), where))


# -- the layout of a class -------------------------------------------------------------------------------------------


class _Kind(NamedTuple):
    """What a value of an annotation must be, and what is made of it; None: it is taken as it is."""

    shape: Shape
    make: Callable[[Any], Any] | None = None


class _Slot(NamedTuple):
    attribute: str
    kind: _Kind
    default: Any
    sparse: bool


class _Layout(NamedTuple):
    shape: Shape
    slots: dict[str, _Slot]  # by their names in JSON


def _layout(cls: type[Record]) -> _Layout:
    found = cls.__dict__.get("_laid_out")
    if found is None:
        cls._laid_out = found = _laid_out(cls)
    return found


def _laid_out(cls: type[Record]) -> _Layout:
    hints = get_type_hints(cls, include_extras=True)
    own = [each for each in fields(cls) if each.name != "raw"]  # type: ignore[arg-type]
    slots = {_key(each, hints[each.name]): _slot(each, hints[each.name]) for each in own}
    needed = {name: slot.kind.shape for name, slot in slots.items() if slot.default is MISSING}
    known = {name: slot.kind.shape for name, slot in slots.items() if slot.default is not MISSING}
    return _Layout(record(needed, known), slots)


def _key(given: Field[Any], hint: Any) -> str:
    notes = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((note.name for note in notes if isinstance(note, Key)), given.name)


def _slot(given: Field[Any], hint: Any) -> _Slot:
    default = given.default if given.default_factory is MISSING else given.default_factory()
    return _Slot(given.name, _kind(hint), default, _SPARSE in given.metadata)


def _kind(hint: Any) -> _Kind:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        shapes = [note for note in inner[1:] if not isinstance(note, Key)]
        plain = _kind(inner[0])
        return _Kind(shapes[0], plain.make) if shapes else plain
    if hint in _PLAIN:
        return _Kind(_PLAIN[hint])
    if origin is Literal:
        return _Kind(one_of(*inner))
    if origin in (Union, types.UnionType):
        (kind,) = (_kind(each) for each in inner if each is not types.NoneType)
        return _Kind(maybe(kind.shape), kind.make and _unless_none(kind.make))
    if origin is tuple:
        kind = _kind(inner[0])
        return _Kind(several(kind.shape), _tuples(kind.make))
    if origin is Mapping:
        keys, kind = map(_kind, inner)
        return _Kind(mapping(kind.shape, keys.shape), kind.make and _mappings(kind.make))
    assert isinstance(hint, type), f"no JSON is read as {hint}"
    assert issubclass(hint, Record), f"no JSON is read as {hint}"
    return _Kind(hint.shape(), hint._made)


def _unless_none(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else make(value)


def _tuples(make: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    return tuple if make is None else lambda value: tuple(map(make, value))


def _mappings(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: {key: make(part) for key, part in value.items()}


# -- values ----------------------------------------------------------------------------------------------------------


def _arguments(cls: type[Record], value: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_filled(_layout(cls), value))


def _filled(layout: _Layout, value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, slot in layout.slots.items():
        if name in value:
            part = value[name]
            yield slot.attribute, part if slot.kind.make is None else slot.kind.make(part)


def _told(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, tuple | list):
        return [_told(part) for part in value]
    if isinstance(value, Mapping):
        return {key: _told(part) for key, part in value.items()}
    return value
