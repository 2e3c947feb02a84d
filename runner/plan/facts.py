"""What is known about a job's data before anything starts: gathered here, so that the plan itself stays pure."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.code.archive import listed_names
from runner.code.data_files import Tree, names_inside
from runner.code.dependencies import Present
from runner.code.hashing import code_hash
from runner.data.catalog import Catalog
from runner.data.results import Results
from runner.plan import graph, reasons
from runner.plan.keys import make_key, result_key, settings_of, short_etags, stage_code, used_config
from runner.plan.resolve import Resolved
from runner.spec import Dataset, Prep
from runner.spec.config import config_to_json, config_values
from runner.store import LOCAL


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
        why: Prep stage -> on what grounds it is skipped, or what has changed since it was made, in words.
        shards: dataset name at a URL -> path and mark of each file, if they are not many.
        manifests: bundle key -> bytes of the manifests that were built on the way; the run keeps them.
        inside: dataset name at a URL -> the names of its files that lie in the project.
        forced: stages and datasets that are made although they exist.
    """

    data: dict[str, DataFacts] = field(default_factory=dict)
    done: dict[str, dict[str, Any]] = field(default_factory=dict)
    ratio: dict[str, float] = field(default_factory=dict)
    why: dict[str, list[str]] = field(default_factory=dict)
    shards: dict[str, dict[str, str] | None] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    inside: dict[str, frozenset[str]] = field(default_factory=dict)
    forced: frozenset[str] = frozenset()


def gather(resolved: Resolved, force: Collection[str] = (), brought: Mapping[str, str] | None = None) -> Facts:
    """Look at every input, and for every Prep stage whether its result exists.

    Args:
        force: stages, and datasets with a `make`, that are made anyway.
        brought: normal name -> version of the packages that the job brings.

    Raises:
        DataError: an input cannot be reached, is empty or is not readable.
    """
    facts = Facts(forced=frozenset(force))
    catalog = Catalog(resolved.store)
    tree = _tree(resolved)
    present = Present(tree.root, resolved.job.pin_packages, brought, tree)
    for name, dataset in resolved.datasets.items():
        known = _definition_facts(name, dataset, catalog, facts, present)
        facts.data[name] = DataFacts(None) if name in force and dataset.make is not None else known
    for stage in resolved.job.stages:
        for name in map(str, graph.reads(stage).values()):
            if name not in facts.data:
                facts.data[name] = _published_facts(name, catalog)
        if isinstance(stage, Prep):
            _result_facts(stage, resolved, catalog, facts, present, stage.name in force)
    return facts


def _tree(resolved: Resolved) -> Tree:
    project, store = resolved.project, resolved.store
    names = functools.partial(listed_names, project, store)
    return Tree(project.root, names, store.root if store.kind == LOCAL else "")


def _definition_facts(name: str, dataset: Dataset, catalog: Catalog, facts: Facts, present: Present) -> DataFacts:
    if dataset.make is not None:
        return _made_facts(name, dataset, catalog, present)
    from runner.data import source_manifest  # loads pyarrow, which a job without data at a URL does not need here

    manifest = source_manifest.look(dataset)
    key = source_manifest.key(dataset)
    facts.manifests[key] = manifest.to_bytes()
    if manifest.footers:
        facts.manifests[source_manifest.footers_key(key)] = manifest.footers.to_bytes()
    facts.shards[name] = short_etags((shard.path, shard.etag) for shard in manifest.shards)
    facts.inside[name] = names_inside(manifest.base, (shard.path for shard in manifest.shards), present.root)
    rows = manifest.rows if manifest.rows >= 0 else None
    return DataFacts(manifest.id, rows, manifest.bytes, len(manifest.shards))


def _made_facts(name: str, dataset: Dataset, catalog: Catalog, present: Present) -> DataFacts:
    """A dataset with a `make`: known if it was made by the same code."""
    result = Results(catalog.store).newest(make_key(name, code_hash(dataset.make, present.root)), present, {"": name})
    return _from_result(result, name) if result is not None else DataFacts(None)


def _published_facts(name: str, catalog: Catalog) -> DataFacts:
    versions = catalog.versions(name)
    if not versions:
        return DataFacts(None)
    last = versions[-1].data
    return DataFacts(last.id, last.rows, last.bytes, last.files)


def _result_facts(
    stage: Prep, resolved: Resolved, catalog: Catalog, facts: Facts, present: Present, forced: bool
) -> None:
    root = resolved.project.root
    present = present.beside(name for source in stage.sources.values() for name in facts.inside.get(str(source), ()))
    inputs = {key: facts.data[str(name)].id for key, name in stage.sources.items()}
    raw = config_to_json(resolved.job.config, root)
    code = stage_code(stage, root, raw)
    config = used_config(stage, config_values(raw, root))
    key = result_key(stage, code.hash, config, inputs) if all(inputs.values()) and not forced else None
    result = Results(catalog.store).newest(key, present, stage.sinks) if key is not None else None
    for name in stage.sinks.values():
        facts.data[name] = _from_result(result, name) if result is not None else DataFacts(None)
    if result is not None:
        facts.done[stage.name] = result
        facts.why[stage.name] = reasons.grounds(result, present)
        return
    if (previous := _previous(stage, catalog)) is not None:
        facts.ratio[stage.name] = previous
    now = {
        "code": code.parts,
        "config": config,
        "settings": settings_of(stage),
        "inputs": _inputs(stage, facts, resolved),
    }
    facts.why[stage.name] = ["forced"] if forced else reasons.nearest(catalog, stage.sinks.values(), now, present)


def _inputs(stage: Prep, facts: Facts, resolved: Resolved) -> dict[str, dict[str, Any]]:
    """The inputs of a stage as a record names them."""
    found = {}
    for key, name in stage.sources.items():
        dataset = resolved.datasets.get(str(name))
        shown: dict[str, Any] = {"dataset": str(name), "id": facts.data[str(name)].id}
        if dataset is not None and dataset.url is not None:
            shown["shards"] = facts.shards.get(str(name))
        found[key] = shown
    return found


def _from_result(result: dict[str, Any], name: str) -> DataFacts:
    sink = next(s for s in result["sinks"].values() if s["dataset"] == name)
    return DataFacts(sink["id"], sink["rows"], sink["bytes"], sink["files"])


def _previous(stage: Prep, catalog: Catalog) -> float | None:
    """Bytes out per byte in of the last result under the same sinks."""
    versions = [v.data for name in stage.sinks.values() for v in catalog.versions(name)[-1:]]
    bytes_in = max((v.bytes_in or 0 for v in versions), default=0)
    return sum(v.bytes for v in versions) / bytes_in if bytes_in else None
