"""What is known about a job's data before anything starts: gathered here, so that the plan itself stays pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runner import graph
from runner.codehash import code_hash
from runner.config import config_to_json, config_values
from runner.data.catalog import Catalog, make_key, result_key, stage_code, used_config
from runner.resolve import Resolved
from runner.spec import Dataset, Prep


@dataclass(frozen=True)
class DataFacts:
    """One dataset.

    Args:
        id: its manifest's id; None if it does not exist yet.
        rows: None where they are not counted yet (text formats are counted when they are read).
    """

    id: str | None
    rows: int | None = None
    bytes: int | None = None
    files: int | None = None


@dataclass(frozen=True)
class Facts:
    """All that the plan needs to know.

    Args:
        data: dataset name -> facts, for inputs and for what exists of the outputs.
        done: Prep stage -> the result that it would find and skip.
        ratio: Prep stage -> bytes out per byte in, the last time it ran.
        manifests: bundle key -> bytes of the manifests that were built on the way; the run keeps them.
    """

    data: dict[str, DataFacts] = field(default_factory=dict)
    done: dict[str, dict[str, Any]] = field(default_factory=dict)
    ratio: dict[str, float] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)


def gather(resolved: Resolved) -> Facts:
    """Look at every input, and for every Prep stage whether its result exists.

    Raises:
        DataError: an input cannot be reached, is empty or is not readable.
    """
    facts = Facts()
    catalog = Catalog(resolved.store)
    for name, dataset in resolved.datasets.items():
        facts.data[name] = _definition_facts(name, dataset, catalog, facts, resolved)
    for stage in resolved.job.stages:
        for name in map(str, graph.reads(stage).values()):
            if name not in facts.data:
                facts.data[name] = _published_facts(name, catalog)
        if isinstance(stage, Prep):
            _result_facts(stage, resolved, catalog, facts)
    return facts


def _definition_facts(name: str, dataset: Dataset, catalog: Catalog, facts: Facts, resolved: Resolved) -> DataFacts:
    if dataset.make is not None:
        return made_facts(name, dataset, catalog, resolved)
    from runner.data import foreign  # loads pyarrow, which a job without data at a URL does not need here

    manifest = foreign.look(dataset)
    facts.manifests[foreign.key(dataset)] = manifest.to_bytes()
    rows = manifest.rows if manifest.rows >= 0 else None
    return DataFacts(manifest.id, rows, manifest.bytes, len(manifest.shards))


def made_facts(name: str, dataset: Dataset, catalog: Catalog, resolved: Resolved) -> DataFacts:
    """A dataset with a `make`: known if it was made by the same code."""
    result = catalog.result(make_key(name, code_hash(dataset.make, resolved.project.root)))
    return _from_result(result, name) if result is not None else DataFacts(None)


def _published_facts(name: str, catalog: Catalog) -> DataFacts:
    versions = catalog.versions(name)
    if not versions:
        return DataFacts(None)
    last = versions[-1].data
    return DataFacts(last["id"], last["rows"], last["bytes"], last["files"])


def _result_facts(stage: Prep, resolved: Resolved, catalog: Catalog, facts: Facts) -> None:
    inputs = {key: facts.data[str(name)].id for key, name in stage.sources.items()}
    key = None
    if all(inputs.values()):
        root = resolved.project.root
        raw = config_to_json(resolved.job.config, root)
        code = stage_code(stage, root, raw)
        key = result_key(stage, code.hash, used_config(stage, config_values(raw, root)), inputs)
    result = catalog.result(key) if key is not None else None
    for name in stage.sinks.values():
        facts.data[name] = _from_result(result, name) if result is not None else DataFacts(None)
    if result is not None:
        facts.done[stage.name] = result
    elif (previous := _previous(stage, catalog)) is not None:
        facts.ratio[stage.name] = previous


def _from_result(result: dict[str, Any], name: str) -> DataFacts:
    sink = next(s for s in result["sinks"].values() if s["dataset"] == name)
    return DataFacts(sink["id"], sink["rows"], sink["bytes"], sink["files"])


def _previous(stage: Prep, catalog: Catalog) -> float | None:
    """Bytes out per byte in of the last result under the same sinks."""
    versions = [v.data for name in stage.sinks.values() for v in catalog.versions(name)[-1:]]
    bytes_in = max((v.get("bytes_in") or 0 for v in versions), default=0)
    return sum(v["bytes"] for v in versions) / bytes_in if bytes_in else None
