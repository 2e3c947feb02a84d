"""A job's config on its way to workers: checked against its annotations, written as values, read back as it was."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

from runner.code import references
from runner.code.hashing import code_hash
from runner.code.references import FunctionRef
from runner.errors import SpecError, brief
from runner.values import hints, records
from runner.values.tagged import Writer, decode

WHERE = "Job, field 'config'"
#: What an object may hold besides the fields that have names.
_NAMELESS = ("args", "items", "entries", "state", "private", "extra")


def settled(config: Any, root: Path) -> Any:
    """The config as workers will have it, made in this process by the same way, with the very classes of this process.

    Numbers of numpy in fields that are declared as Python's numbers become Python's.

    Raises:
        SpecError: a field cannot travel, or holds what its annotation does not declare; says which.
    """
    known: dict[FunctionRef, Any] = {}
    raw = _encoded(config, root, known)
    return decode(raw, lambda ref: known[FunctionRef.from_json(ref)])


def config_to_json(config: Any, root: Path) -> Any:
    """The config as JSON that says what its values are; see `values.tagged`.

    Raises:
        SpecError: as `settled`.
    """
    return _encoded(config, root, {})


def config_from_json(raw: Any) -> Any:
    """The config instance; the user's code must be loadable in this process."""
    return decode(raw, lambda ref: FunctionRef.from_json(ref).load())


def config_values(raw: Any, root: Path | None = None) -> dict[str, Any]:
    """What `config_to_json` says of each field, as JSON values that differ wherever values do; imports no user's code.

    Where a class or function is named, the hash of its code stands for it: an edited one is another value.
    """
    if raw is None:
        return {}
    fields = raw.get("fields", {})
    others = {name: part for name in _NAMELESS if (part := raw.get(name)) is not None}
    others = {f"{name} of the object" if name in fields else name: part for name, part in others.items()}
    return {name: _with_code(part, root) for name, part in {**others, **fields}.items()}


def _with_code(raw: Any, root: Path | None) -> Any:
    if isinstance(raw, list):
        return [_with_code(part, root) for part in raw]
    if not isinstance(raw, dict):
        return raw
    if raw.get("kind") == "FunctionRef" and "name" in raw:
        ref = FunctionRef.from_json(raw)
        return {"code": code_hash(ref, root), "name": str(ref)}
    return {key: _with_code(part, root) for key, part in raw.items()}


def _encoded(config: Any, root: Path, known: dict[FunctionRef, Any]) -> Any:
    if config is None:
        return None
    root = root.resolve()

    def refer(value: Any, path: str) -> FunctionRef:
        ref = reference(value, root, path or type(config).__name__)
        known[ref] = value
        return ref

    return Writer(refer, WHERE, functools.partial(_settled, root)).encode(config, "")


def reference(value: Any, root: Path, path: str, where: str = WHERE) -> FunctionRef:
    """A reference to a class or function that a config names.

    Raises:
        SpecError: no other process would find it: a lambda, one defined inside a function, a method of an object.
    """
    name, owner = value.__qualname__, getattr(value, "__self__", None)
    if "<lambda>" in name or not isinstance(owner, type(sys) | None):
        raise SpecError(
            f"{path} is {'a lambda' if '<lambda>' in name else brief(value)}",
            allowed="a function or class at the top level of a module",
            todo="write `def name(...): ...` at the top of the file",
            where=where,
        )
    return references.reference(value, root, f"{where}: {path}")


def _settled(root: Path, value: Any, owner: Any, name: str, path: str) -> Any:
    """The value of a field that holds what its annotation declares. Those of libraries are their authors' affair."""
    cls = type(owner)
    if not records.is_record_class(cls) or not hints.is_of_project(cls, str(root)):
        return value
    hint = records.hint(cls, name)
    try:
        return hints.fitted(value, hint)
    except hints.Misfit as error:
        declared = hints.shown(hint)
        inner = f"; {path}{error.step} is {brief(error.value)}" if error.step else ""
        raise SpecError(
            f"{path}={brief(value)}, but {cls.__name__} declares `{name}: {declared}`{inner}",
            allowed=f"a value of the declared type, {hints.shown(error.hint)}"
            if error.step
            else "a value of that type",
            todo=f"write `{name}: {declared} | None`" if value is None else "change the value or the annotation",
            where=WHERE,
        ) from None
