"""``--set name=value``: changes to a job's config and spec, read as the type that the field declares (see `texts`)."""

from __future__ import annotations

import copy
import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from runner.errors import SpecError, listed, suggest
from runner.spec.job import INLINE, Cluster, Job, Prep, Train
from runner.values import records, texts
from runner.values.hints import Misfit, bare, fitted, is_open, members

_STAGE_FIELDS = {
    Prep: ("on", "workers", "batch_size", "max_quarantine", "timeout_s"),
    Train: (
        "on",
        "workers",
        "on_data",
        "data_workers",
        "seed",
        "checkpoint_every_s",
        "checkpoint_every_steps",
        "keep",
        "timeout_s",
    ),
}
#: What one run may change of its cluster: where it waits, and before whom.
_CLUSTER_FIELDS = ("queue", "priority")


class Text(str):
    """The value of an assignment on the command line: to be read, where a string of Python's may be meant as it is."""


@dataclasses.dataclass(frozen=True)
class _Read:
    """A part of such a value that is read as JSON or Python already, but not yet as the type of its field."""

    part: Any


def parse_assignments(assignments: typing.Iterable[str]) -> dict[str, str]:
    """``["lr=1e-3", "train.workers=8"]`` as a mapping.

    Raises:
        SpecError: one of them has no ``=``.
    """
    found: dict[str, str] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise SpecError(f"--set {text}", allowed="name=value", todo="write --set lr=1e-3 or --set train.workers=8")
        found[name.strip()] = Text(value)
    return found


def said(name: str, value: Any) -> str:
    """How the user has written a change: on the command line, as a keyword argument, or in `changes`."""
    if isinstance(value, Text):
        return f"--set {name}={value}"
    return f"{name}={value!r}" if name.isidentifier() else f"changes={{{name!r}: {value!r}}}"


def to_json(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes as JSON; those that it cannot hold are only named, for they are in the config and the stages."""
    return {name: _one_to_json(value) for name, value in changes.items()}


def _one_to_json(value: Any) -> dict[str, Any]:
    if isinstance(value, Text):
        return {"text": str(value)}
    return {"value": value} if _is_plain(value) else {"made": True}


def from_json(name: str, raw: Mapping[str, Any], job: Job) -> Any:
    """One value of `to_json`.

    Args:
        job: that was made with it.
    """
    if "made" in raw:
        return _at(job, name)
    return Text(raw["text"]) if "text" in raw else raw["value"]


def _at(job: Job, name: str) -> Any:
    """The value of a field, by the name that `apply` knows it by."""
    first, _, rest = name.partition(".")
    stage = next((stage for stage in job.stages if stage.name == first), None)
    if stage is not None and rest and first not in records.names(job.config):
        return getattr(stage, rest)
    config = first == "config" and rest and first not in records.names(job.config)
    value = job.config
    for part in (rest if config else name).split("."):
        value = getattr(value, part) if records.is_record(value) else _item_of(value, part)
    return value


def _item_of(owner: Any, text: str) -> Any:
    """An entry of a dict, or an item of a list, tuple or named tuple."""
    if isinstance(owner, dict):
        return next(part for key, part in owner.items() if text in (str(getattr(key, "name", key)), str(key)))
    return owner[int(text)] if text.isdecimal() else getattr(owner, text)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(part) for key, part in value.items())
    return value is None or isinstance(value, Text) or type(value) in (bool, int, float, str)


def apply(job: Job, changes: Mapping[str, Any]) -> Job:
    """The job with the changes made and checked.

    Args:
        changes: ``lr`` or ``config.lr`` for the config (nested: ``model.layers``, ``weights.3``), ``<stage>.<field>``
            for a stage, ``cluster`` for the cluster. A `Text` is read as the field's type; another value is taken as it
            is where it fits, and converted where it can be.

    Raises:
        SpecError: no such field, or a value of the wrong type.
    """
    staged: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        job = _apply_one(job, name, value, staged)
    if not staged:
        return job
    return dataclasses.replace(job, stages=tuple(_restaged(s, staged.get(s.name, {})) for s in job.stages))


def of_cluster(job: Job, changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `apply` is for, and what is ``cluster.queue`` or ``cluster.priority``, for `place`.

    A config with a field `cluster` means that one; it can be told apart by ``config.``.
    """
    taken = {} if "cluster" in records.names(job.config) else {f"cluster.{name}": name for name in _CLUSTER_FIELDS}
    rest = {name: value for name, value in changes.items() if name not in taken}
    return rest, {taken[name]: value for name, value in changes.items() if name in taken}


def place(cluster: Cluster, placed: Mapping[str, Any]) -> Cluster:
    """The cluster with another queue or priority for one run.

    Raises:
        SpecError: its backend has no queues, or that cannot be such a name.
    """
    if not placed:
        return cluster
    if cluster.kubernetes is None:
        name, value = next(iter(placed.items()))
        raise SpecError(
            f"cluster.{name}={value}",
            allowed=f"a cluster of backend 'kuberay'; this one is '{cluster.backend}'",
            todo=f"leave the {name} out, or name a cluster on Kubernetes",
        )
    return dataclasses.replace(cluster, kubernetes=dataclasses.replace(cluster.kubernetes, **placed))


def _apply_one(job: Job, name: str, value: Any, staged: dict[str, dict[str, Any]]) -> Job:
    """The job with one change. What is of a stage is only put down in `staged`: its fields are checked together."""
    first, _, rest = name.partition(".")
    config_fields = records.names(job.config)
    stages = {stage.name: stage for stage in job.stages}
    if first == "config" and rest and "config" not in config_fields:
        return dataclasses.replace(job, config=_set_inside(job.config, rest, value, said(name, value)))
    if first in stages and first in config_fields and rest:
        raise SpecError(
            f"{said(name, value)}: '{first}' is a stage and a config field",
            allowed=f"config.{name} for the config",
            todo="say which one, or rename the stage",
        )
    if first in stages and rest:
        staged.setdefault(first, {})[rest] = _stage_value(stages[first], rest, value)
        return job
    if first in config_fields:
        return dataclasses.replace(job, config=_set_inside(job.config, name, value, said(name, value)))
    if name == "cluster":
        return dataclasses.replace(job, cluster=str(value) if isinstance(value, Text) else value)
    known = [
        *config_fields,
        *(f"{s.name}.{f}" for s in job.stages for f in _STAGE_FIELDS[type(s)]),
        "cluster",
        *(f"cluster.{name}" for name in _CLUSTER_FIELDS),
    ]
    other = "see the job's config" if job.config is not None else "give the job a config: Job(config=...)"
    raise SpecError(said(name, value), allowed=listed(known), todo=suggest(name, known) or other)


def stage_fields(stage: Prep | Train) -> tuple[str, ...]:
    """The fields of a stage that a run may change."""
    return _STAGE_FIELDS[type(stage)]


def _restaged(stage: Prep | Train, fields: dict[str, Any]) -> Prep | Train:
    """The stage with other fields. A transform that is done in the ranks after all has no workers of its own."""
    if fields.get("on_data") == INLINE:
        fields = {"data_workers": None, **fields}
    return dataclasses.replace(stage, **fields) if fields else stage


def _stage_value(stage: Prep | Train, field: str, value: Any) -> Any:
    known = _STAGE_FIELDS[type(stage)]
    shown = said(f"{stage.name}.{field}", value)
    if field not in known:
        raise SpecError(
            shown,
            allowed=listed(f"{stage.name}.{k}" for k in known),
            todo=suggest(field, known) or "change the job file",
        )
    hint = typing.get_type_hints(type(stage))[field]
    return convert(value, hint, shown)


# -- inside a config -------------------------------------------------------------------------------------------------


def _set_inside(owner: Any, path: str, value: Any, shown: str, hint: Any = Any) -> Any:
    """A copy of an object, dict, list or tuple with the value at `path` changed.

    Args:
        hint: what `owner` is declared as.
    """
    first, _, rest = path.partition(".")
    if owner is None or not (records.is_record(owner) or isinstance(owner, dict | list | tuple)):
        owner = _begun(owner, hint, path, shown)
    if records.is_record(owner):
        known = records.names(owner)
        if first not in known:
            raise SpecError(shown, allowed=listed(known), todo=suggest(first, known) or "see the job's config")
        inner = _changed(getattr(owner, first, None), rest, value, shown, records.hint(type(owner), first))
        return records.changed(owner, first, inner, shown)
    return _set_item(owner, first, rest, value, shown, hint)


def _changed(old: Any, rest: str, value: Any, shown: str, hint: Any) -> Any:
    if rest:
        return _set_inside(old, rest, value, shown, hint)
    given = _fields_in(value) if records.is_record(old) else None
    if given is None:
        return convert(value, hint, shown)
    for name, part in given.items():
        old = _set_inside(old, name, _Read(part), shown, hint)
    return old


def _fields_in(value: Any) -> dict[str, Any] | None:
    """``{"layers": 9}``: these fields of what is there."""
    if isinstance(value, _Read):
        return value.part if isinstance(value.part, dict) else None
    if isinstance(value, Text) and value.strip().startswith("{"):
        return dict(texts.read(value, dict[str, Any]))
    return None


def _set_item(owner: Any, key: str, rest: str, value: Any, shown: str, hint: Any) -> Any:
    """An entry of a dict (a new one too), or an item of a list or tuple that is there."""
    option = next((m for m in members(hint) if isinstance(owner, typing.get_origin(m) or ())), None)
    parts = typing.get_args(option) if option is not None else ()
    if isinstance(owner, dict):
        key_hint, part_hint = parts if len(parts) == 2 else (Any, Any)
        found = _key_of(owner, key, key_hint, shown)
        if rest and found not in owner:
            raise SpecError(shown, allowed=listed(map(str, owner)), todo="name an entry that is there")
        changed = copy.copy(owner)  # of its class, which may be one derived from dict
        changed[found] = _changed(owner.get(found), rest, value, shown, part_hint)
        return changed
    names = list(getattr(owner, "_fields", ()))  # of a named tuple
    indices = [*map(str, range(len(owner)))]
    if key not in (*names, *indices):
        allowed = f"an index from 0 to {len(owner) - 1}" if owner else "no index: it is empty"
        raise SpecError(
            shown,
            allowed=listed(names) if names else allowed,
            todo=suggest(key, names) or "name an item that is there",
        )
    at = names.index(key) if key in names else indices.index(key)
    if names:
        part = _changed(owner[at], rest, value, shown, records.hint(type(owner), names[at]))
        return owner._replace(**{names[at]: part})
    part_hint = Any if not parts else parts[at] if len(parts) > at and Ellipsis not in parts else parts[0]
    items = [*owner[:at], _changed(owner[at], rest, value, shown, part_hint), *owner[at + 1 :]]
    if isinstance(owner, list):
        made = copy.copy(owner)
        made[:] = items
        return made
    return tuple(items)


def _key_of(owner: dict[Any, Any], text: str, hint: Any, shown: str) -> Any:
    """The key that a text means: one that is there and is written so, or a new one of the declared type."""
    same = [key for key in owner if str(getattr(key, "name", key)) == text or str(key) == text]
    return same[0] if same else convert(Text(text), str if is_open(hint) else hint, shown)


def _begun(owner: Any, hint: Any, path: str, shown: str) -> Any:
    """Where nothing is there yet that has fields: one with its defaults, if it is clear of which class."""
    classes = [bare(m) for m in members(hint) if records.is_record_class(bare(m))]
    if owner is None and len(classes) == 1:
        try:
            return classes[0]()
        except TypeError as error:
            raise SpecError(
                f"{shown}: {error}", allowed=f"a {classes[0].__name__} as a whole, in the job file"
            ) from None
    if owner is None and any(typing.get_origin(m) is dict or bare(m) is dict for m in members(hint)):
        return {}
    first = path.partition(".")[0]
    raise SpecError(
        f"{shown}: {owner!r} has no '{first}'",
        allowed=f"one of {listed(c.__name__ for c in classes)} first"
        if classes
        else "a field of an object, dict or list",
        todo="give the whole value",
    )


def convert(value: Any, hint: Any, shown: str) -> Any:
    """`value` as the type `hint`: a `Text` is read, another value is taken as it is where it fits.

    Args:
        shown: how errors call the change.

    Raises:
        SpecError: it does not fit.
    """
    try:
        if isinstance(value, Text):
            return texts.read(str(value), hint)
        if isinstance(value, _Read):
            return texts.converted(value.part, hint)
        try:
            return fitted(value, hint)
        except Misfit:
            return texts.converted(value, hint)
    except texts.Unreadable:
        raise SpecError(shown, allowed=texts.allowed(hint), todo="give such a value") from None
