"""``--set name=value``: changes to a job's config and spec, converted to the type that the field declares."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any

from runner.errors import SpecError, listed, suggest
from runner.spec import Cluster, Job, Prep, Train

_STAGE_FIELDS = {
    Prep: ("on", "workers", "batch_size", "max_quarantine", "timeout_s"),
    Train: ("on", "workers", "seed", "checkpoint_every_s", "checkpoint_every_steps", "keep", "timeout_s"),
}
#: What one run may change of its cluster: where it waits, and before whom.
_CLUSTER_FIELDS = ("queue", "priority")


def parse_assignments(texts: typing.Iterable[str]) -> dict[str, str]:
    """``["lr=1e-3", "train.workers=8"]`` as a mapping.

    Raises:
        SpecError: one of them has no ``=``.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise SpecError(f"--set {text}", allowed="name=value", todo="write --set lr=1e-3 or --set train.workers=8")
        found[name.strip()] = value
    return found


def apply(job: Job, changes: Mapping[str, Any]) -> Job:
    """The job with the changes made and checked.

    Args:
        changes: ``lr`` or ``config.lr`` for the config (nested: ``model.layers``), ``<stage>.<field>`` for a stage,
            ``cluster`` for the cluster. Strings are converted to the field's type; other values are checked against it.

    Raises:
        SpecError: no such field, or a value of the wrong type.
    """
    for name, value in changes.items():
        job = _apply_one(job, name, value)
    return job


def of_cluster(job: Job, changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `apply` is for, and what is ``cluster.queue`` or ``cluster.priority``, for `place`.

    A config with a field `cluster` means that one; it can be told apart by ``config.``.
    """
    taken = {} if "cluster" in _field_names(job.config) else {f"cluster.{name}": name for name in _CLUSTER_FIELDS}
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
            f"cluster.{name}={value}", allowed=f"a cluster of backend 'kuberay'; this one is '{cluster.backend}'",
            todo=f"leave the {name} out, or name a cluster on Kubernetes",
        )  # fmt: skip
    return dataclasses.replace(cluster, kubernetes=dataclasses.replace(cluster.kubernetes, **placed))


def _apply_one(job: Job, name: str, value: Any) -> Job:
    first, _, rest = name.partition(".")
    config_fields = _field_names(job.config)
    stages = {stage.name: stage for stage in job.stages}
    if first == "config" and rest and "config" not in config_fields:
        return dataclasses.replace(job, config=_set_config(job.config, rest, value, name))
    if first in stages and first in config_fields and rest:
        raise SpecError(
            f"--set {name}: '{first}' is a stage and a config field",
            allowed=f"config.{name} for the config", todo="say which one, or rename the stage",
        )  # fmt: skip
    if first in stages and rest:
        changed = _set_stage(stages[first], rest, value)
        return dataclasses.replace(job, stages=tuple(changed if s.name == first else s for s in job.stages))
    if first in config_fields:
        return dataclasses.replace(job, config=_set_config(job.config, name, value, name))
    if name == "cluster":
        return dataclasses.replace(job, cluster=value)
    known = [
        *config_fields,
        *(f"{s.name}.{f}" for s in job.stages for f in _STAGE_FIELDS[type(s)]),
        "cluster",
        *(f"cluster.{name}" for name in _CLUSTER_FIELDS),
    ]
    raise SpecError(f"--set {name}", allowed=listed(known), todo=suggest(name, known) or "see the job's config")


def _field_names(value: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else []


def _set_stage(stage: Prep | Train, field: str, value: Any) -> Prep | Train:
    known = _STAGE_FIELDS[type(stage)]
    if field not in known:
        raise SpecError(
            f"--set {stage.name}.{field}", allowed=listed(f"{stage.name}.{k}" for k in known),
            todo=suggest(field, known) or "change the job file",
        )  # fmt: skip
    hint = typing.get_type_hints(type(stage))[field]
    return dataclasses.replace(stage, **{field: convert(value, hint, f"{stage.name}.{field}")})


def _set_config(config: Any, path: str, value: Any, shown: str) -> Any:
    first, _, rest = path.partition(".")
    known = _field_names(config)
    if first not in known:
        raise SpecError(f"--set {shown}", allowed=listed(known), todo=suggest(first, known) or "see the job's config")
    if rest:
        return dataclasses.replace(config, **{first: _set_config(getattr(config, first), rest, value, shown)})
    hint = typing.get_type_hints(type(config))[first]
    return dataclasses.replace(config, **{first: convert(value, hint, shown)})


def convert(value: Any, hint: Any, shown: str) -> Any:
    """`value` as the type `hint`; a string is read the way a person would write such a value.

    Raises:
        SpecError: it does not fit.
    """
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(hint)
    attempts = [lambda: adapter.validate_python(value, strict=True)]
    if isinstance(value, str):
        attempts += [
            lambda: adapter.validate_strings(value),
            lambda: adapter.validate_python(_from_text(value)),
        ]
    else:
        attempts.append(lambda: adapter.validate_python(value))
    for attempt in attempts:
        try:
            return attempt()
        except (ValidationError, ValueError):
            continue
    type_name = getattr(hint, "__name__", None) if isinstance(hint, type) else str(hint).replace("typing.", "")
    raise SpecError(f"--set {shown}={value}", allowed=f"a value of type {type_name}", todo="give such a value")


def _from_text(text: str) -> Any:
    """JSON, 'none', or a comma-separated list."""
    if text.lower() in ("none", "null"):
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text.split(",")
