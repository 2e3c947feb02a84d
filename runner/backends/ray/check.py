"""A resolved job for a Ray cluster that is there already, before it is a run: what is checked."""

from __future__ import annotations

import os
import socket
import sys
from typing import Any
from urllib.parse import urlsplit

from runner.backends.ray.api import TOKEN, RayApi, RayApiError
from runner.code.dependencies import version_of
from runner.errors import InputError, PlanError
from runner.plan.plan import Plan, StagePlan
from runner.plan.resolve import Resolved
from runner.spec import Cluster
from runner.spec.shape import share_of_rank
from runner.store import LOCAL
from runner.store.sharing import check_no_credentials, check_reachable


def check(resolved: Resolved, plan: Plan, api: RayApi | None = None) -> None:
    """Everything that can be known before any job is submitted.

    Raises:
        InputError: something would not work; nothing was made.
    """
    address = str(resolved.cluster.address)
    here = is_here(address)
    if not here:
        check_reachable(resolved.store, "every machine of the Ray cluster")
    check_no_credentials(
        resolved.store,
        "in Ray's list of jobs",
        "put them into the environment of the Ray cluster's machines, and use environment variables here",
    )
    api = api or RayApi.outside(address)
    where = f"Ray at {address}"
    try:
        _check_versions(api.metadata(), where)
        alive = [node for node in api.nodes() if node["state"] == "ALIVE"]
    except RayApiError as error:
        raise _no_answer(error, where) from None
    if resolved.store.kind == LOCAL:
        _check_all_here(alive, resolved.store.url)
    for stage in plan.stages:
        _check_fits(stage, resolved.cluster, alive, where)


def is_here(address: str) -> bool:
    """Whether a URL's host is this machine, by its name."""
    host = (urlsplit(address).hostname or "").lower()
    own = {"localhost", "::1", os.uname().nodename.lower(), socket.getfqdn().lower()}
    return host in own or host.startswith("127.")


def _no_answer(error: RayApiError, where: str) -> InputError:
    if error.status in (401, 403):
        given = "is not the right one" if os.environ.get(TOKEN) else "is not set"
        return InputError(
            f"it asks for a token, and {TOKEN} {given}",
            allowed="the token of that cluster",
            todo=f"set {TOKEN}; `ray get-auth-token` on the cluster's head prints it",
            where=where,
        )
    return InputError(
        error.message if error.status == 0 else f"it answers with HTTP status {error.status}: {error.message}",
        allowed="the address of the dashboard of a Ray cluster that is up (port 8265 of its head)",
        todo="check `address` of the cluster, the network, and that the head was started with its dashboard "
        "(pip install 'ray[default]')",
        where=where,
    )


def _check_versions(metadata: dict[str, Any], where: str) -> None:
    """Functions of notebooks travel as pickles, and the code of a run knows one Ray: that of a client that has one."""
    pairs = (
        ("Ray", metadata.get("rayVersion"), version_of("ray")),
        ("Python", metadata.get("pythonVersion"), ".".join(map(str, sys.version_info[:3]))),
    )
    for what, there, here in pairs:
        if there and here and there.split(".")[:2] != here.split(".")[:2]:
            minor = ".".join(there.split(".")[:2])
            raise InputError(
                f"it runs {what} {there}, and this client has {what} {here}",
                allowed=f"{what} {minor} on both",
                todo=f"install {what} {minor} here, or {here} on the cluster",
                where=where,
            )


def _check_all_here(nodes: list[dict[str, Any]], store: str) -> None:
    """An address of this machine may be a tunnel, and a head here may have workers elsewhere."""
    import psutil

    own = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    others = sorted({node["node_ip"] for node in nodes} - own)
    if others:
        raise InputError(
            f"a folder of this machine, and the Ray cluster has machines elsewhere: {', '.join(others[:5])}",
            allowed="a store that every machine of the Ray cluster can reach, such as s3://bucket/runs",
            todo="set RUNNER_STORE, --store, or `store` in [tool.runner]",
            where=f"store {store}",
        )


def _check_fits(stage: StagePlan, cluster: Cluster, nodes: list[dict[str, Any]], where: str) -> None:
    """All ranks of a gang must have room at once when the cluster is empty; a prep makes do with one worker."""
    share = share_of_rank(cluster.groups[stage.group], {}, one_machine=False).resources or {}
    train = stage.kind == "train"
    each, count = (share, stage.workers) if train else ({"CPU": 1.0}, 1)
    room = sum(_room(node["resources_total"], each) for node in nodes)
    if room >= count:
        _check_data_workers(stage, each, nodes, where)
        return
    has = "; ".join(f"{node['node_ip']}: {_words(node['resources_total'])}" for node in nodes[:8])
    raise PlanError(
        f"stage '{stage.name}' needs {count} x ({_words(each)}) at a time, and Ray has room for {room} ({has})",
        allowed=f"at most {room} of them" if room else "a shape that some machine of the cluster has",
        todo=f"ask for fewer workers, change the group '{stage.group}', or add machines to the Ray cluster",
        where=where,
    )


def _check_data_workers(stage: StagePlan, each: dict[str, float], nodes: list[dict[str, Any]], where: str) -> None:
    """Those that transform batches have a CPU each, besides those of the ranks."""
    cores = sum(int(node["resources_total"].get("CPU", 0.0)) for node in nodes)
    left = cores - int(stage.workers * each.get("CPU", 0.0)) if stage.data_workers else 0
    if stage.data_workers > left:
        raise PlanError(
            f"stage '{stage.name}' needs {stage.data_workers} CPUs for its data_workers, and Ray has {left} beside its "
            f"{stage.workers} ranks",
            allowed=f"at most {left} of them",
            todo="ask for fewer data_workers, say on_data='inline', or add machines to the Ray cluster",
            where=where,
        )


def _words(resources: dict[str, float]) -> str:
    return ", ".join(f"{resources[kind]:g} {kind}" for kind in ("CPU", "GPU") if kind in resources) or "no CPU"


def _room(total: dict[str, float], each: dict[str, float]) -> int:
    """How many of a shape a machine holds when it is empty."""
    return min(int(total.get(kind, 0.0) // number) for kind, number in each.items())
