"""What a result is named by: its code, its config, its settings and its inputs, as keys of the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runner.code.hashing import Identity, identify
from runner.data.files.changed import content
from runner.spec import Prep

#: Part of every key: a change of what runner itself makes of the same code must not reuse older results.
_VERSION = 2
#: A record names no more shards of an input than these.
_MOST_SHARDS = 512


def stage_code(stage: Prep, root: Path | None = None, config: Any = None) -> Identity:
    """All user code that the stage runs: `fn` and `keep` with what they reach, and the methods of the config.

    Args:
        root: the project's folder; the process's code root by default.
        config: the JSON of the job's config.
    """
    return identify([stage.fn] if stage.keep is None else [stage.fn, stage.keep], root, config)


def used_config(stage: Prep, values: Mapping[str, Any]) -> dict[str, Any]:
    """The config fields that the stage's result depends on, as JSON values.

    A config whose class says itself what is in it (`__getstate__`) counts whole for each field that is not told apart.
    """
    if stage.uses is None:
        return dict(values)
    return {name: values[name] if name in values else dict(values) for name in stage.uses}


def settings_of(stage: Prep) -> dict[str, Any]:
    """The settings of a stage that shape rows."""
    names = ("batch_format", "batch_size", "sort_by", "max_quarantine")
    return {name: getattr(stage, name) for name in names}


def code_key(stage: Prep, code_hash: str, config_used: Mapping[str, Any]) -> str:
    """20 hex digits for what the stage does to any input: its code, its config and its settings, but not its data."""
    settings = {name: value for name, value in settings_of(stage).items() if name != "max_quarantine"}
    return _digest([_VERSION, code_hash, dict(config_used), settings, sorted(stage.sinks.items())])[:20]


def result_key(stage: Prep, code_hash: str, config_used: Mapping[str, Any], input_ids: Mapping[str, str | None]) -> str:
    """20 hex digits for the result of the stage on these inputs (source key -> manifest id)."""
    return _digest([code_key(stage, code_hash, config_used), dict(input_ids), stage.max_quarantine])[:20]


def short_etags(shards: Iterable[tuple[str, str]]) -> dict[str, str] | None:
    """Path -> a short mark of the content of each shard, so that a later run can say which differ; None if many."""
    found = dict(shards)
    return {path: _digest(content(etag))[:8] for path, etag in found.items()} if len(found) <= _MOST_SHARDS else None


def make_key(name: str, code_hash: str) -> str:
    """20 hex digits for what a dataset's `make` gives."""
    return _digest([_VERSION, "make", name, code_hash])[:20]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
