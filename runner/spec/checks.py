"""Small checks that definitions are made of; each raises SpecError: field, value, allowed, what to do."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from runner.errors import SpecError, listed, suggest

T = TypeVar("T")

_UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}
_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*$", re.IGNORECASE)


def checked(cls: type[T]) -> type[T]:
    """Makes wrong or missing arguments of a dataclass SpecErrors with near misses."""
    made = cls.__init__
    signature = inspect.signature(made)
    known = [name for name in signature.parameters if name != "self"]

    @functools.wraps(made)
    def checked_init(self: Any, *args: Any, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in known:
                raise SpecError(
                    f"unknown field '{name}'",
                    allowed=listed(known),
                    todo=suggest(name, known) or "remove it",
                    where=cls.__name__,
                )
        try:
            signature.bind(self, *args, **kwargs)
        except TypeError as error:
            raise SpecError(
                str(error),
                allowed=f"{cls.__name__}{_shown(signature)}",
                todo="give every required field",
                where=cls.__name__,
            ) from None
        made(self, *args, **kwargs)

    cls.__init__ = checked_init  # type: ignore[method-assign]
    return cls


def _shown(signature: inspect.Signature) -> str:
    """The signature without `self`, as a user would write the call."""
    parts = [
        n if p.default is p.empty else f"{n}={p.default!r}" for n, p in signature.parameters.items() if n != "self"
    ]
    return f"({', '.join(parts)})"


class Fields:
    """Checks of the fields of one value; `where` is put in front of every error."""

    def __init__(self, where: str) -> None:
        self.where = where

    def fail(self, field: str, value: object, allowed: str, todo: str = "") -> SpecError:
        """The error for `field`, to be raised by the caller."""
        shown = repr(value)
        shown = shown if len(shown) <= 120 else shown[:117] + "..."
        return SpecError(f"{field}={shown}", allowed=allowed, todo=todo or f"change '{field}'", where=self.where)

    def name(self, field: str, value: object, *, longest: int, pattern: str, words: str) -> None:
        """A name of at most `longest` characters that fits `pattern` (described by `words`)."""
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise self.fail(field, value, f"{words}, at most {longest} characters", _nearest_name(value, longest))
        if len(value) > longest:
            raise self.fail(
                field,
                value,
                f"at most {longest} characters (this has {len(value)})",
                _nearest_name(value, longest),
            )

    def one_of(self, field: str, value: object, allowed: Collection[str]) -> None:
        """One of a few words."""
        if value not in allowed:
            raise self.fail(field, value, listed(allowed), suggest(str(value), allowed))

    def names(self, field: str, value: object) -> tuple[str, ...]:
        """Several names; a single one that is not in a list or a tuple would be taken apart into letters."""
        found = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str | Mapping) else None
        if found is None or not all(isinstance(name, str) for name in found):
            todo = f"write {field}=({value!r},)" if isinstance(value, str) else ""
            raise self.fail(field, value, "a tuple or a list of names", todo)
        return found

    def flag(self, field: str, value: object) -> None:
        """True or False, or a number or a scalar of numpy that is equal to one of them."""
        if value is None or isinstance(value, str) or value not in (True, False):
            raise self.fail(field, value, "True or False")

    def integer(self, field: str, value: object, least: int, most: int | None = None) -> None:
        """A whole number within bounds."""
        bounds = f"a whole number from {least}" + (f" to {most}" if most is not None else " up")
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.fail(field, value, bounds)
        if value < least or (most is not None and value > most):
            raise self.fail(field, value, bounds)

    def number(self, field: str, value: object, least: float, most: float | None = None) -> None:
        """A number within bounds."""
        bounds = f"a number from {least:g}" + (f" to {most:g}" if most is not None else " up")
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not least <= value or (most is not None and not value <= most):  # type: ignore[operator]
            raise self.fail(field, value, bounds)

    def callable(self, field: str, value: object, signature: str) -> None:
        """A function or class, or a reference to one."""
        if not callable(value):
            raise self.fail(field, value, f"a function {signature}", "give the function itself, not its result")

    def runs_when_called(self, field: str, value: Any) -> None:
        """No generator and no coroutine, of whose body a call runs nothing."""
        own = inspect.isroutine(value) or isinstance(value, type | functools.partial)
        called = value if own else value.__call__
        if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
            raise self.fail(field, value, "a function without `yield`", "let it do its work itself, or call another")
        if inspect.iscoroutinefunction(called):
            raise self.fail(field, value, "a function without `async`", "call it by `asyncio.run` in another one")


def _nearest_name(value: object, longest: int) -> str:
    if not isinstance(value, str):
        return "give a string"
    fixed = re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")[:longest].strip("-")
    return f"'{fixed}' would do" if fixed and fixed[0].isalpha() else "choose another name"


def parse_bytes(fields: Fields, field: str, value: int | str) -> int:
    """Bytes from a whole number or from words such as '512MiB' and '4GB'."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.match(value) if isinstance(value, str) else None
    if not match:
        raise fields.fail(field, value, "bytes as a whole number, or a size such as '512MiB', '4GiB', '2GB'")
    return int(float(match[1]) * _UNITS[(match[2] or "").lower()])
