"""A job with every name resolved: its datasets, its cluster, its stages in order."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

from runner.errors import PlanError, listed, suggest
from runner.plan import graph
from runner.plan.project import Project
from runner.spec import Cluster, Dataset, Job, Stage, Train
from runner.spec.job import INLINE
from runner.store import Store


@dataclass(frozen=True)
class Resolved:
    """What a plan is made from.

    Args:
        job: its stages in the order of their data, every data reference a name.
        cluster_name: how the job calls its cluster.
        cluster: where it runs.
        datasets: name -> definition, for the inputs that no stage writes and that have a URL or a `make`.
        project: where the definitions came from.
        store: of the run.
    """

    job: Job
    cluster_name: str
    cluster: Cluster
    datasets: dict[str, Dataset]
    project: Project
    store: Store


def resolve(job: Job, project: Project, store: Store) -> Resolved:
    """Look up every name that a job uses.

    Raises:
        InputError: a dataset, cluster or group is not known, or the stages do not fit together.
    """
    name, cluster = _cluster(job, project)
    job, datasets = _named_datasets(job, project)
    check_groups(job, name, cluster)
    published = store.list("datasets")
    _check_sinks(job, datasets)
    stages = graph.ordered(job, {*datasets, *published, *project.stems(Dataset)})
    return Resolved(dataclasses.replace(job, stages=stages), name, cluster, datasets, project, store)


def _cluster(job: Job, project: Project) -> tuple[str, Cluster]:
    if isinstance(job.cluster, Cluster):
        return job.cluster.backend, job.cluster
    return job.cluster, project.cluster(job.cluster)


def _named_datasets(job: Job, project: Project) -> tuple[Job, dict[str, Dataset]]:
    """Replaces Dataset values by names, and collects the definitions behind all names."""
    datasets: dict[str, Dataset] = {}
    written = {name for stage in job.stages for name in graph.writes(stage)}

    def name_of(stage: Stage, key: str, reference: str | Dataset) -> str:
        if isinstance(reference, Dataset):
            name = "-".join(filter(None, (job.name, stage.name, key)))[:60]
            datasets[name] = _absolute(reference, project.root)
            return name
        definition = None if reference in written else project.dataset(reference)
        if definition is not None:
            datasets[reference] = _absolute(definition, project.root)
        return reference

    stages: list[Stage] = []
    for stage in job.stages:
        named = {key: name_of(stage, key, ref) for key, ref in graph.reads(stage).items()}
        if isinstance(stage, Train):
            stages.append(dataclasses.replace(stage, data=named))
        else:
            stages.append(dataclasses.replace(stage, source=named.get("", named)))
    return dataclasses.replace(job, stages=tuple(stages)), datasets


def _absolute(dataset: Dataset, root: Path) -> Dataset:
    """Relative paths mean the project's folder, wherever the process stands."""
    if dataset.url is None:
        return dataset
    urls = [url if "://" in url or os.path.isabs(os.path.expanduser(url)) else str(root / url) for url in dataset.urls]
    return dataclasses.replace(dataset, url=urls[0] if isinstance(dataset.url, str) else tuple(urls))


def _check_sinks(job: Job, datasets: dict[str, Dataset]) -> None:
    for stage in job.stages:
        for name in graph.writes(stage):
            if name in datasets:
                raise PlanError(
                    f"sink '{name}' is also a dataset that the job reads from datasets/{name}.py",
                    allowed="sinks with names of their own",
                    todo="rename the sink",
                    where=f"Prep '{stage.name}'",
                )


def check_groups(job: Job, name: str, cluster: Cluster) -> None:
    """Every stage is on a group of the cluster. Raises PlanError."""
    for stage in job.stages:
        _check_group(stage, "on", stage.on, name, cluster)
        if isinstance(stage, Train) and stage.helpers:
            _check_group(stage, "on_data", stage.on_data, name, cluster)


def _check_group(stage: Stage, field: str, group: str, name: str, cluster: Cluster) -> None:
    if group not in cluster.groups:
        raise PlanError(
            f"{field}='{group}'",
            allowed=f"a group of cluster '{name}': {listed(cluster.groups)}"
            + (f"; or '{INLINE}', in the ranks" if field == "on_data" else ""),
            todo=suggest(group, cluster.groups) or "choose one of them",
            where=f"{type(stage).__name__} '{stage.name}'",
        )
