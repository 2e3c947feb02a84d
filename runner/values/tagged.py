"""Python values as JSON that says what they are, so that what is read back equals what was written, types and all.

JSON's own values stand for themselves; anything else is an object with the key ``$``, which names its kind:

    1, 0.5, "x", null, [1, 2], {"a": 1}                  as JSON has them
    {"$": "tuple", "items": [1, 2]}                      see `kinds`: what Python, numpy and torch bring
    {"$": "enum", "class": {...}, "name": "GELU"}        a class is a reference, as a function of a job is
    {"$": "object", "class": {...}, "fields": {...}}     an instance of a class: dataclass, pydantic, attrs, any other

What is written follows from the value's own class and never from an annotation. Reading makes objects without calling
`__init__`, so whatever that did is neither lost nor done twice.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

from runner.code.references import FunctionRef
from runner.errors import SpecError, brief
from runner.values import kinds

TAG = "$"
#: Containers and objects that may lie in each other; Python's own JSON stops at some hundreds.
MOST_DEPTH = 100
#: JSON's readers need not take integers beyond this; in hexadecimal there is no bound.
_BIG = 2**63
_MISSING = object()
#: Attributes that are no part of a value: the interpreter's, a hash that another process would compute otherwise, and
#: what `typing` notes on an object that was made as ``Box[int](1)``.
_HASH = "_attrs_cached_hash"
_NO_STATE = ("__dict__", "__weakref__", _HASH, "__orig_class__")

ALLOWED = "numbers, text, containers, enums, functions by name, arrays, and objects whose fields are such values"


class Writer:
    """Makes JSON of values.

    Args:
        refer: ``refer(function or class, path)`` gives a reference that another process can load, or raises SpecError.
        where: what the values belong to, for errors.
        settle: ``settle(value, owner, name, path)``: what is written for the field `name` of the object `owner`; it may
            raise.
    """

    def __init__(
        self,
        refer: Callable[[Any, str], FunctionRef],
        where: str,
        settle: Callable[[Any, Any, str, str], Any] | None = None,
    ) -> None:
        self._refer, self._where, self._settle = refer, where, settle
        self._within: list[int] = []

    def encode(self, value: Any, path: str) -> Any:
        """JSON for a value.

        Args:
            path: how errors call it, such as ``optimizer.betas[0]``.

        Raises:
            SpecError: it cannot travel, or something in it cannot; names the place.
        """
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int:
            return value if -_BIG <= value < _BIG else {TAG: "int", "value": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {TAG: "float", "value": repr(value)}
        if id(value) in self._within:
            raise self.refused(path, value, "contains itself", "let no value refer to one that it lies in")
        if len(self._within) >= MOST_DEPTH:
            raise self.refused(f"{path[:40]}...", value, f"lies in {MOST_DEPTH} others", "keep it in a flat list")
        self._within.append(id(value))
        try:
            return self._encode(value, path)
        finally:
            self._within.pop()

    def _encode(self, value: Any, path: str) -> Any:
        def sub(part: Any, step: str) -> Any:
            return self.encode(part, path + step)

        if type(value) is list:
            return [sub(part, f"[{i}]") for i, part in enumerate(value)]
        if type(value) is dict:
            return _mapping(value, sub)
        if isinstance(value, enum.Enum):
            return self._enum(value, path)
        if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
            return {TAG: "function", "function": self._reference(value, path)}
        found = kinds.encode(value, sub)
        if found is not None:
            return {TAG: found[0], **found[1]}
        if kinds.is_secret(value):
            why = "would lie in the run's bundle for all to read"
            raise self.refused(path, value, why, "let the function read it from its environment")
        return self._object(value, path, sub)

    def refused(self, path: str, value: Any, why: str, todo: str) -> SpecError:
        """The error for a value that cannot travel."""
        name = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        return SpecError(f"{path} is a {name}, which {why}", allowed=ALLOWED, todo=todo, where=self._where)

    def _enum(self, value: enum.Enum, path: str) -> dict[str, Any]:
        made = {TAG: "enum", "class": self._reference(type(value), path)}
        if isinstance(value, enum.Flag):
            return {**made, "value": int(value.value)}
        return {**made, "name": value.name}

    def _reference(self, value: Any, path: str) -> dict[str, Any]:
        fields = dataclasses.asdict(self._refer(value, path))
        return {"kind": "FunctionRef", **{name: part for name, part in fields.items() if part is not None}}

    # -- objects -----------------------------------------------------------------------------------------------------

    def _object(self, value: Any, path: str, sub: Callable[[Any, str], Any]) -> dict[str, Any]:
        """An instance of a class, as `copy.copy` would take it apart."""
        cls = type(value)
        try:
            maker, made_of, *rest = value.__reduce_ex__(4)
        except Exception:  # whatever its class says instead of being taken apart
            maker, made_of, rest = None, (), []
        if getattr(maker, "__name__", "") != "__newobj__" or cls is object:
            raise self.refused(path, value, "cannot be sent to another process", "make it inside the function")
        _, items, entries = [*rest, None, None, None][:3]
        found: dict[str, Any] = {TAG: "object", "class": self._reference(cls, path)}
        if len(made_of) > 1:
            found["args"] = [sub(part, "") for part in made_of[1:]]
        if items is not None:
            found["items"] = [sub(part, f"[{i}]") for i, part in enumerate(items)]
        if entries is not None:
            found["entries"] = [
                [sub(key, f"[key {brief(key)}]"), sub(part, f"[{brief(key)}]")] for key, part in entries
            ]
        return {**found, **self._state(value, path, sub)}

    def _state(self, value: Any, path: str, sub: Callable[[Any, str], Any]) -> dict[str, Any]:
        """What is in an object: its attributes by name, or what its own `__getstate__` says."""
        cls = type(value)
        if _dict_of(value) is value:  # a dict that is its own attributes
            return {"attributes": "entries"}
        if _is_pydantic(cls):
            return self._pydantic_state(value, path, sub)
        if not _has_plain_state(cls):
            return {"state": sub(value.__getstate__(), "")}
        hashed = {"keeps_hash": True} if hasattr(value, _HASH) else {}  # attrs computes it anew where it is None
        return {"fields": self._fields(value, path), **hashed}

    def _fields(self, value: Any, path: str) -> dict[str, Any]:
        fields = {}
        for name, part in attributes(value):
            place = f"{path}.{name}" if path else name
            fields[name] = self.encode(self._settle(part, value, name, place) if self._settle else part, place)
        return fields

    def _pydantic_state(self, value: Any, path: str, sub: Callable[[Any, str], Any]) -> dict[str, Any]:
        found = {"fields": self._fields(value, path), "set": sorted(value.__pydantic_fields_set__)}
        for name in ("extra", "private"):
            part = getattr(value, f"__pydantic_{name}__")
            if part is not None:
                found[name] = sub(part, "")
        return found


def _mapping(value: dict[Any, Any], sub: Callable[[Any, str], Any]) -> Any:
    """A JSON object where that says it all; its order may not survive, so only for keys that are in order."""
    keys = list(value)
    if all(type(key) is str and not key.startswith(TAG) for key in keys) and keys == sorted(keys):
        return {key: sub(part, f"[{brief(key)}]") for key, part in value.items()}
    return {
        TAG: "dict",
        "items": [[sub(key, f"[key {brief(key)}]"), sub(v, f"[{brief(key)}]")] for key, v in value.items()],
    }


def attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """The attributes of an object: of its `__dict__` (but for what a cached_property keeps there), then fields of a
    dataclass that its class alone has a value of (``field(init=False, default=1)``), then its slots.
    """
    cls = type(value)
    own = _dict_of(value)
    for name, part in ({} if own is None else own).items():
        if name not in _NO_STATE and not isinstance(getattr(cls, name, None), functools.cached_property):
            yield name, part
    for field in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
        by_class = not field.init and getattr(cls, field.name, _MISSING) is field.default
        if by_class and own is not None and field.name not in own:
            yield field.name, getattr(value, field.name)
    for name in _slots(cls) if not _is_pydantic(cls) else ():
        part = getattr(value, name, _MISSING)
        if part is not _MISSING:
            yield name, part


def _dict_of(value: Any) -> dict[str, Any] | None:
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return found if isinstance(found, dict) else None


def _slots(cls: type) -> Iterator[str]:
    for base in reversed(cls.__mro__):
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in _NO_STATE:
                private = name.startswith("__") and not name.endswith("__")
                yield f"_{base.__name__.lstrip('_')}{name}" if private else name


def _has_plain_state(cls: type) -> bool:
    """Whether its attributes are all there is, as for every class that has not written a `__getstate__` of its own."""
    own: Any = getattr(cls, "__getstate__")  # noqa: B009 - mypy does not know that every class has one
    everyones: Any = getattr(object, "__getstate__")  # noqa: B009
    return own is everyones or getattr(own, "__module__", "") in ("dataclasses", "attr._make")


def _is_pydantic(cls: type) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(cls, pydantic.BaseModel)


# -- back ------------------------------------------------------------------------------------------------------------


def decode(raw: Any, load: Callable[[dict[str, Any]], Any]) -> Any:
    """The value behind JSON of `Writer.encode`.

    Args:
        load: gives the class or function of a reference.
    """
    if isinstance(raw, list):
        return [decode(part, load) for part in raw]
    if not isinstance(raw, dict):
        return raw
    kind = raw.get(TAG)

    def back(part: Any) -> Any:
        return decode(part, load)

    if kind is None:
        return {key: back(part) for key, part in raw.items()}
    if kind == "object":
        return _made(raw, load(raw["class"]), back)
    if kind == "enum":
        return _member(load(raw["class"]), raw)
    if kind == "function":
        return load(raw["function"])
    if kind == "int":
        return int(raw["value"], 16)
    if kind == "float":
        return float(raw["value"])
    if kind == "dict":
        return {back(key): back(part) for key, part in raw["items"]}
    return kinds.decode(kind, raw, back)


def _member(cls: Any, raw: dict[str, Any]) -> Any:
    if "value" in raw:
        return cls(raw["value"])
    try:
        return cls[raw["name"]]
    except KeyError:
        raise SpecError(
            f"{cls.__qualname__} has no member '{raw['name']}'",
            allowed=", ".join(cls.__members__),
            todo="name it as when the value was written",
        ) from None


def _made(raw: dict[str, Any], cls: Any, back: Callable[[Any], Any]) -> Any:
    made = cls.__new__(cls, *(back(part) for part in raw.get("args", ())))
    if "items" in raw:
        list.extend(made, (back(part) for part in raw["items"]))
    for key, part in raw.get("entries", ()):
        dict.__setitem__(made, back(key), back(part))
    if "attributes" in raw:
        made.__dict__ = made
    elif "state" in raw:
        _set_state(made, back(raw["state"]))
    elif "set" in raw:
        made.__setstate__({
            "__dict__": {name: back(part) for name, part in raw["fields"].items()},
            "__pydantic_fields_set__": set(raw["set"]),
            "__pydantic_extra__": back(raw.get("extra")),
            "__pydantic_private__": back(raw.get("private")),
        })  # fmt: skip
    else:
        for name, part in raw["fields"].items():
            object.__setattr__(made, name, back(part))
        if raw.get("keeps_hash"):
            object.__setattr__(made, _HASH, None)
    return made


def _set_state(made: Any, state: Any) -> None:
    """As `copy.copy` does it."""
    if hasattr(type(made), "__setstate__"):
        made.__setstate__(state)
        return
    plain, slots = state if isinstance(state, tuple) else (state, None)
    for name, part in {**(plain or {}), **(slots or {})}.items():
        object.__setattr__(made, name, part)
