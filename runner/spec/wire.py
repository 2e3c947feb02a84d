"""A job as JSON and back: what `spec.json` in a bundle holds. Functions become references, values stay values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.code.references import FunctionRef, reference
from runner.errors import SpecError
from runner.record import Bundle
from runner.spec.config import config_to_json
from runner.spec.job import Cluster, Dataset, Group, Job, Kubernetes, Prep, Train, Volume
from runner.untrusted.shapes import broken

_KINDS = {kind.__name__: kind for kind in (Job, Prep, Train, Dataset, Cluster, Group, Kubernetes, Volume, FunctionRef)}
_FUNCTION_FIELDS = ("fn", "keep", "make", "transform")


def to_json(value: Any, root: Path, where: str = "") -> Any:
    """JSON for a definition, or for anything made of them.

    Args:
        value: a Job, stage, Dataset, Cluster, Group, container or plain value.
        root: the project's folder, to which references of functions are relative.
    """
    if isinstance(value, Job):
        body = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.name != "config"}
        shown = {key: to_json(part, root, f"Job '{value.name}'") for key, part in body.items()}
        return {"kind": "Job", **shown, "config": config_to_json(value.config, root)}
    if isinstance(value, FunctionRef):
        return {"kind": "FunctionRef", **dataclasses.asdict(value)}
    kind = type(value).__name__
    if kind in _KINDS and isinstance(value, _KINDS[kind]):
        return {"kind": kind, **_fields_to_json(value, root)}
    if isinstance(value, Mapping):
        return {str(key): to_json(part, root, where) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(part, root, where) for part in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise SpecError(f"{value!r}", allowed="values that JSON can hold", where=where)


def _fields_to_json(value: Any, root: Path) -> dict[str, Any]:
    where = f"{type(value).__name__} '{getattr(value, 'name', '')}'".replace(" ''", "")
    out = {}
    for field in dataclasses.fields(value):
        part = getattr(value, field.name)
        if field.name in _FUNCTION_FIELDS and callable(part):
            part = reference(part, root, f"{where}, field '{field.name}'")
        out[field.name] = to_json(part, root, where)
    return out


def of_bundle(bundle: Bundle, part: str) -> Any:
    """The definitions behind one part of a run's spec, such as "cluster".

    Raises:
        StoreBroken: it is no such part.
    """
    try:
        return from_json(bundle.known_spec().raw[part])
    except (SpecError, AttributeError, LookupError, TypeError, ValueError) as error:
        where = bundle.store.path(bundle.newest_spec())
        raise broken(where, f"'{part}' is no definition ({type(error).__name__}: {error})") from None


def from_json(value: Any) -> Any:
    """The definitions behind the JSON; a job's `config` stays JSON (see `config.config_from_json`)."""
    if isinstance(value, list):
        return tuple(from_json(part) for part in value)
    if not isinstance(value, dict):
        return value
    kind = value.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        return {key: from_json(part) for key, part in value.items()}  # a mapping, which may have such a key as well
    fields = {key: from_json(part) for key, part in value.items() if key not in ("kind", "config")}
    if kind == "Job":
        fields["stages"] = tuple(
            dataclasses.replace(s, uses=None) if isinstance(s, Prep) else s for s in fields["stages"]
        )
        job = Job(**fields)
        # `uses` is checked against a config that only exists once the user's code is loaded, and was checked before.
        for stage, raw in zip(job.stages, value["stages"], strict=True):
            if isinstance(stage, Prep):
                object.__setattr__(stage, "uses", from_json(raw["uses"]))
        return job
    return _KINDS[kind](**fields)
