"""Objects with named fields that may be a config: instances of dataclasses, of pydantic's models, of attrs' classes."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import sys
import typing
from typing import Any

from runner.code.references import FunctionRef
from runner.errors import SpecError
from runner.values.tagged import Writer

KINDS = "an instance of a dataclass, of a pydantic model or of an attrs class"


def is_record(value: Any) -> bool:
    """Whether it is an instance of one of these."""
    return not isinstance(value, type) and is_record_class(type(value))


def is_record_class(cls: Any) -> bool:
    """Whether its instances are such objects."""
    return isinstance(cls, type) and (dataclasses.is_dataclass(cls) or _is_attrs(cls) or _is_model(cls))


def names(value: Any) -> list[str]:
    """The names of the fields of an object or class; nothing for None."""
    cls: Any = value if isinstance(value, type) else type(value)
    if _is_model(cls):
        return list(cls.model_fields)
    if _is_attrs(cls):
        return [field.name for field in cls.__attrs_attrs__]
    return [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []


def hint(cls: type, name: str) -> Any:
    """The declared type of a field; Any where it has none, or one that cannot be looked up (``if TYPE_CHECKING:``)."""
    return hints(cls).get(name, Any)


@functools.lru_cache(maxsize=256)
def hints(cls: type) -> dict[str, Any]:
    """Field -> declared type, of those whose type can be looked up."""
    if _is_model(cls):
        return {name: field.annotation for name, field in cls.model_fields.items()}  # type: ignore[attr-defined]
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except Exception:  # one annotation may be anything that its author's type checker takes: the others still count
        return {name: found for base in reversed(cls.__mro__) for name, found in _own_hints(base).items()}


def _own_hints(cls: type) -> dict[str, Any]:
    found = {}
    scope = vars(sys.modules.get(cls.__module__, typing))
    for name, declared in inspect.get_annotations(cls).items():
        try:
            found[name] = eval(declared, dict(scope), dict(vars(cls))) if isinstance(declared, str) else declared
        except Exception:
            found[name] = Any
    return found


def changed(value: Any, name: str, new: Any, shown: str) -> Any:
    """A copy with another value of one field, made as its class makes it: validators and `__post_init__` run.

    Args:
        shown: how errors call the change.

    Raises:
        SpecError: the class does not take it; or it changes fields whenever it is made, so that a copy would differ in
            more than what was asked for.
    """
    try:
        made = _remade(value, {name: new})
    except Exception as error:  # whatever the user's class and its validators raise
        raise SpecError(
            f"{shown}: {_said(error)}",
            allowed=f"what {type(value).__name__} takes for '{name}'",
            todo="give another value, or change the field in the job file",
        ) from error
    again = _remade(value, {})
    for other in _given(value):
        if _text(getattr(again, other, None)) != _text(getattr(value, other, None)):
            raise SpecError(
                f"{shown}: each time a {type(value).__name__} is made, its '{other}' changes "
                f"({getattr(value, other, None)!r} becomes {getattr(again, other, None)!r})",
                allowed="a class that leaves the fields alone that it is given",
                todo=f"keep what follows from '{other}' in a property or in a field(init=False)",
            )
    return made


def _given(value: Any) -> list[str]:
    """The fields that its class is made with."""
    cls: Any = type(value)
    if _is_attrs(cls):
        return [field.name for field in cls.__attrs_attrs__ if field.init]
    if _is_model(cls):
        return names(cls)
    return [field.name for field in dataclasses.fields(cls) if field.init]


def _remade(value: Any, changes: dict[str, Any]) -> Any:
    cls = type(value)
    if _is_attrs(cls):
        import attrs

        alias = {field.name: field.alias for field in cls.__attrs_attrs__}
        return attrs.evolve(value, **{alias[name]: new for name, new in changes.items()})
    if _is_model(cls):
        return _remade_model(value, changes)
    if hasattr(cls, "__pydantic_validator__"):
        return _remade_pydantic_dataclass(value, changes)
    return dataclasses.replace(value, **changes)


def _remade_model(value: Any, changes: dict[str, Any]) -> Any:
    fields = {name: getattr(value, name) for name in names(value)}
    made = type(value).model_validate({**fields, **(value.model_extra or {}), **changes}, by_alias=False, by_name=True)
    made.__pydantic_fields_set__.intersection_update(value.model_fields_set | set(changes))
    return made


def _remade_pydantic_dataclass(value: Any, changes: dict[str, Any]) -> Any:
    from pydantic_core import ArgsKwargs

    cls: Any = type(value)
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(cls) if field.init}
    made = cls.__new__(cls)
    cls.__pydantic_validator__.validate_python(
        ArgsKwargs((), {**fields, **changes}), self_instance=made, by_alias=False, by_name=True
    )
    return made


def _said(error: Exception) -> str:
    """What an exception says, without pydantic's addresses of pages."""
    lines = [line.strip() for line in str(error).splitlines() if "For further information" not in line]
    return " ".join(lines) or type(error).__name__


def _text(value: Any) -> str:
    """A text that differs where values do: types count, and NaN equals itself."""
    try:
        found = Writer(lambda part, path: FunctionRef(repr(part)), "").encode(value, "")
    except SpecError:
        return repr(value)
    return json.dumps(found)


def _is_model(cls: Any) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(cls, type) and issubclass(cls, pydantic.BaseModel)


def _is_attrs(cls: Any) -> bool:
    return isinstance(cls, type) and hasattr(cls, "__attrs_attrs__")
