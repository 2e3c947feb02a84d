"""States as what `torch.load(weights_only=True)` reads, and what it takes to make of them again what they were.

A state is written in the nearest form that any PyTorch reads without running code: a number for a numpy scalar, a dict
for a defaultdict. What that leaves out (the class, the factory) is noted beside it, by place, and put back on reading:
without a pickle, and with no class but those of `classes`.
"""

from __future__ import annotations

import collections
import enum
import functools
from collections.abc import Callable
from typing import Any

import torch

from runner.code.references import FunctionRef
from runner.errors import SpecError, brief
from runner.train.checkpoint import classes as state_classes
from runner.values import kinds
from runner.values.tagged import Writer, decode

#: Read by torch as they are.
_AS_IT_IS = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    bytearray,
    torch.Size,
    torch.dtype,
    torch.device,
)
_DICTS = (dict, collections.OrderedDict, collections.Counter)
_ALLOWED = "tensors, numbers, text, enums, paths, times, and dicts, lists, tuples, sets and deques of them"
_HERE = "here"


class _StateWriter(Writer):
    """Makes JSON of the values of a checkpoint."""

    def __init__(self) -> None:
        super().__init__(state_classes.reference, "ctx.track")

    def encode(self, value: Any, path: str) -> Any:
        """JSON of a value; a partial is refused, since to make it again would call a function."""
        if type(value) is functools.partial:
            raise self.refused(path, value, "calls a function", "")
        return super().encode(value, path)

    def refused(self, path: str, value: Any, why: str, todo: str) -> SpecError:
        """The error of a value that cannot be kept, with what a state may hold."""
        found = super().refused(path, value, why, todo)
        return SpecError(found.found, allowed=_ALLOWED, todo="keep plain values of it in the state", where=found.where)

    def _object(self, value: Any, path: str, sub: Callable[[Any, str], Any]) -> dict[str, Any]:
        found = super()._object(value, path, sub)
        state_classes.refuse_foreign(type(value), path)
        return found


def writer() -> Writer:
    """What makes JSON of the values of a checkpoint. It names classes, and refuses what they cannot say alone."""
    return _StateWriter()


def back(raw: Any) -> Any:
    """The value behind JSON of `writer`. Raises SpecError where it names what a checkpoint may not."""
    known = state_classes.classes(raw)
    return decode(raw, lambda ref: known[FunctionRef.from_json(ref)])


def plain(value: Any, where: str, notes: dict[str, Any] | None = None) -> Any:
    """`value` in the nearest form that `torch.load(weights_only=True)` reads.

    Args:
        where: how errors call it.
        notes: takes what `exact` needs, as JSON.

    Raises:
        SpecError: it holds an object that has no such form; says where. Or it is nested too deeply, or holds itself.
    """
    try:
        return _plain(value, where, {} if notes is None else notes)
    except RecursionError:
        raise SpecError(
            f"{where} holds itself, or more than a hundred containers in each other",
            allowed=_ALLOWED,
            todo="let state_dict() return flat values",
            where="ctx.track",
        ) from None


def _plain(value: Any, where: str, notes: dict[str, Any]) -> Any:
    cls = type(value)
    if isinstance(value, torch.Tensor):
        return value.data if isinstance(value, torch.nn.Parameter) else value
    if cls in _AS_IT_IS:
        return value
    if cls in _DICTS:
        return _dict(value, where, notes, cls)
    if cls is list or cls is tuple:
        return cls(_items(value, where, notes))
    if cls is set or cls is frozenset:
        return _set(value, where, notes)
    if cls is collections.defaultdict:
        notes[_HERE] = {"defaultdict": writer().encode(value.default_factory, f"{where}.default_factory")}
        return _dict(value, where, notes, dict)
    if cls is collections.deque:
        notes[_HERE] = {"deque": value.maxlen}
        return _items(value, where, notes)
    if state_classes.is_named_tuple(cls):
        notes[_HERE] = {"named": writer().encode(cls, where)}
        return tuple(_items(value, where, notes))
    return _leaf(value, where, notes)


def _items(value: Any, where: str, notes: dict[str, Any]) -> list[Any]:
    return [_sub(part, f"{where}[{i}]", notes, str(i)) for i, part in enumerate(value)]


def _dict(value: Any, where: str, notes: dict[str, Any], cls: Callable[..., Any]) -> Any:
    made = {}
    for i, (key, part) in enumerate(value.items()):
        made[_sub(key, f"{where} (the key {brief(key)})", notes, f"key {i}")] = _sub(
            part, f"{where}[{brief(key)}]", notes, str(i)
        )
    return cls(made)


def _set(value: Any, where: str, notes: dict[str, Any]) -> Any:
    found = {_sub(part, f"{where} (the element {brief(part)})", None, "") for part in value}
    if type(value) is frozenset:
        notes[_HERE] = {"frozenset": True}
    return found


def _sub(value: Any, where: str, notes: dict[str, Any] | None, step: str) -> Any:
    """A part of a container. Its notes are kept under its place; without notes it must be read as it is."""
    inner: dict[str, Any] = {}
    made = _plain(value, where, inner)
    if inner and notes is None:
        raise _refused(value, where)
    if inner and notes is not None:
        notes[step] = inner
    return made


def _leaf(value: Any, where: str, notes: dict[str, Any]) -> Any:
    """A value that torch does not read: its nearest form, and the value itself as a note."""
    number = next((kind for kind in (bool, int, float, complex, str, bytes) if isinstance(value, kind)), None)
    nearest: Any
    if isinstance(value, enum.Enum):
        nearest = number(value.value) if number is not None else _plain(value.value, where, {})
    elif type(value).__module__ == "numpy" and hasattr(value, "dtype"):
        if value.dtype.kind not in "biufcSU":
            raise _refused(value, where)
        numbers = value.dtype.kind not in "SU" and value.dtype.isnative
        nearest = torch.from_numpy(value.copy()) if value.ndim and numbers else value.tolist()
    elif number is not None:
        nearest = number(value)
    elif kinds.encode(value, lambda part, step: None) is not None:
        nearest = str(value)
    else:
        raise _refused(value, where)
    notes[_HERE] = {"value": writer().encode(value, where)}
    return nearest


def _refused(value: Any, where: str) -> SpecError:
    return SpecError(
        f"{where} is a {type(value).__module__}.{type(value).__qualname__}",
        allowed=_ALLOWED,
        todo="let state_dict() return such values, so that the checkpoint can be read without running code",
        where="ctx.track",
    )


def exact(value: Any, notes: dict[str, Any]) -> Any:
    """What `plain` was given, from what it returned and what it noted."""
    if not notes:
        return value
    inner = {step: part for step, part in notes.items() if step != _HERE}
    if isinstance(value, dict) and inner:
        value = (
            type(value)(
                (exact(key, inner.get(f"key {i}", {})), exact(part, inner.get(str(i), {})))
                for i, (key, part) in enumerate(value.items())
            )
            if type(value) is not collections.Counter
            else _counter(value, inner)
        )
    elif isinstance(value, list | tuple) and inner:
        value = type(value)([exact(part, inner.get(str(i), {})) for i, part in enumerate(value)])
    here = notes.get(_HERE, {})
    if "value" in here:
        return back(here["value"])
    if "defaultdict" in here:
        return collections.defaultdict(back(here["defaultdict"]), value)
    if "deque" in here:
        return collections.deque(value, here["deque"])
    if "named" in here:
        named = back(here["named"])
        if not state_classes.is_named_tuple(named):
            raise _refused(named, "the checkpoint")
        return tuple.__new__(named, value)
    return frozenset(value) if "frozenset" in here else value


def _counter(value: Any, inner: dict[str, Any]) -> Any:
    return collections.Counter(
        {
            exact(key, inner.get(f"key {i}", {})): exact(part, inner.get(str(i), {}))
            for i, (key, part) in enumerate(value.items())
        }
    )
