"""Whether a value is what an annotation declares."""

from __future__ import annotations

import collections.abc
import sys
import types
import typing
from pathlib import Path
from typing import Any

from runner.errors import brief
from runner.process.code_root import is_installed

#: A number may stand for one of the next kinds, as for every type checker.
_TOWER: dict[type, tuple[type, ...]] = {float: (float, int), complex: (complex, float, int)}
_NUMBERS = (bool, int, float, complex, str, bytes)
_WRAPPERS = tuple(
    getattr(typing, name) for name in ("Final", "ClassVar", "Required", "NotRequired") if hasattr(typing, name)
)


class Misfit(Exception):
    """A value is not what its annotation declares.

    Args:
        step: where inside the value, such as ``[0]``.
    """

    def __init__(self, value: Any, hint: Any, step: str = "") -> None:
        super().__init__(value, hint, step)
        self.value, self.hint, self.step = value, hint, step


def bare(hint: Any) -> Any:
    """The hint without `Annotated`, `Final`, `NewType`, `type X = ...` and the like around it."""
    while True:
        if typing.get_origin(hint) is typing.Annotated or typing.get_origin(hint) in _WRAPPERS:
            hint = typing.get_args(hint)[0]
        elif hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        else:
            return hint


def members(hint: Any) -> list[Any]:
    """The members of a union, those of unions in it too; otherwise the hint alone."""
    hint = bare(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [member for part in typing.get_args(hint) for member in members(part)]
    return [hint]


def is_open(hint: Any) -> bool:
    """Whether it says nothing: Any, object, a variable, or a name that could not be looked up."""
    hint = bare(hint)
    return hint in (Any, object) or isinstance(hint, str | typing.TypeVar | typing.ForwardRef)


def shown(hint: Any) -> str:
    """How errors call a hint."""
    hint = bare(hint)
    if hint is None or hint is type(None):
        return "None"
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__name__
    return str(hint).replace("typing.", "")


def fitted(value: Any, hint: Any) -> Any:
    """The value, which is what `hint` declares. Numbers of numpy become Python's where those are declared.

    Raises:
        Misfit: it is something else.
    """
    if is_open(hint):
        return value
    options = members(hint)
    if len(options) > 1:
        return _one_of(value, hint, options)
    option = options[0]
    origin, parts = typing.get_origin(option), typing.get_args(option)
    if option is None or option is type(None):
        return _checked(value, hint, value is None)
    if origin is typing.Literal:
        return _checked(value, hint, any(value == part and type(value) is type(part) for part in parts))
    if origin is type:
        return _checked(value, hint, isinstance(value, type))
    if origin is collections.abc.Callable or option is collections.abc.Callable:
        return _checked(value, hint, callable(value))
    if typing.is_typeddict(option):
        return _checked(value, hint, isinstance(value, dict))
    if origin is not None:
        return _container(value, hint, origin, parts)
    if isinstance(option, type):
        return _instance(value, hint, option)
    return value


def _checked(value: Any, hint: Any, good: bool) -> Any:
    if not good:
        raise Misfit(value, hint)
    return value


def _one_of(value: Any, hint: Any, options: list[Any]) -> Any:
    if any(is_open(option) or type(value) is bare(option) for option in options):
        return value
    for option in options:
        try:
            return fitted(value, option)
        except Misfit:
            continue
    raise Misfit(value, hint)


def _instance(value: Any, hint: Any, cls: type) -> Any:
    if (
        cls in _NUMBERS
        and type(value).__module__ == "numpy"
        and hasattr(value, "item")
        and not getattr(value, "shape", 1)
    ):
        value = value.item()
    try:
        good = isinstance(value, _TOWER.get(cls, cls))
    except TypeError:  # a protocol that cannot be asked
        return value
    if not good and cls.__module__.split(".")[0] == "pydantic":  # EmailStr and the like: words to pydantic, no classes
        return value
    return _checked(value, hint, good)


def _container(value: Any, hint: Any, origin: Any, parts: tuple[Any, ...]) -> Any:
    """A generic class: its instance; where it is one of Python's own containers, what is in it too."""
    try:
        _checked(value, hint, isinstance(value, origin))
    except TypeError:
        return value
    kind = type(value)
    if kind is tuple and issubclass(tuple, origin):
        if origin is tuple and parts[-1:] != (Ellipsis,):
            _checked(value, hint, len(value) == len(parts) or parts == ((),))
            return _same(
                value, tuple(_part(p, h, f"[{i}]") for i, (p, h) in enumerate(zip(value, parts, strict=False)))
            )
        return _same(value, tuple(_part(part, parts[0], f"[{i}]") for i, part in enumerate(value)))
    if kind in (list, set, frozenset) and len(parts) == 1:
        return _same(value, kind(_part(part, parts[0], f"[{i}]") for i, part in enumerate(value)))
    if kind is dict and len(parts) == 2:
        return _same(
            value,
            {
                _part(key, parts[0], f"[key {brief(key)}]"): _part(part, parts[1], f"[{brief(key)}]")
                for key, part in value.items()
            },
        )
    return value


def _part(value: Any, hint: Any, step: str) -> Any:
    try:
        return fitted(value, hint)
    except Misfit as error:
        raise Misfit(error.value, error.hint, step + error.step) from None


def _same(value: Any, made: Any) -> Any:
    """`value` itself where nothing in it changed."""
    parts = value.items() if isinstance(value, dict) else value
    others = made.items() if isinstance(made, dict) else made
    if isinstance(value, dict):
        parts = [part for pair in parts for part in pair]
        others = [part for pair in others for part in pair]
    elif isinstance(value, set | frozenset):
        return value if {type(part) for part in value} == {type(part) for part in made} else made
    return value if all(a is b for a, b in zip(parts, others, strict=True)) else made


def is_of_project(cls: type, prefix: str) -> bool:
    """Whether a class is defined in a file below `prefix`, or in no file at all (a notebook)."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return file is None or (file.startswith(prefix) and not is_installed(Path(file)))
