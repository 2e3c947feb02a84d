"""The commands that go to a run's machines: ssh, port-forward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from runner.backends.kuberay.kind import kubernetes_of
from runner.cli.console import say
from runner.cli.queries import open_run
from runner.errors import InputError, listed

if TYPE_CHECKING:
    from runner.client.run import Run
    from runner.kube.client import Kube


def ssh(name: str, command: list[str], rank: int | None, store: str | None) -> None:
    """Run a command, or a shell, in a pod of a run."""
    from runner.backends.kuberay.manifest import CONTAINER
    from runner.kube.shell import run_in

    run = open_run(name, store)
    kube = _kube(run)
    pod = _head(kube, run)["metadata"]["name"] if rank is None else _pod_of_rank(run, rank)
    raise typer.Exit(run_in(kube, pod, CONTAINER, command))


def port_forward(name: str, port: int, local: int, store: str | None) -> None:
    """Carry connections until Ctrl-C."""
    from runner.kube.shell import Forward

    run = open_run(name, store)
    kube = _kube(run)
    pod = _head(kube, run)["metadata"]["name"]
    forward = Forward(kube, pod, port, local)
    say(f"http://127.0.0.1:{forward.local} leads to port {port} of {pod}; Ctrl-C ends it")
    if port == DASHBOARD:
        say(f"Ray asks for a token: {_token_words(run)}")
    try:
        forward.serve()
    finally:
        forward.close()


DASHBOARD = 8265


def _token_words(run: Run) -> str:
    """Who may open a shell in the head may have its token. It is not printed, since terminals are recorded."""
    return f"`runner ssh {run.id} -- printenv RAY_AUTH_TOKEN` prints it"


def _kube(run: Run) -> Kube:
    from runner.kube.client import Kube
    from runner.spec import wire

    todo = f"see `runner status {run.id}` and `runner logs {run.id}`, which show any run"
    cluster = wire.of_bundle(run.bundle, "cluster")
    where = kubernetes_of(cluster, f"{run.id} does not run on Kubernetes, but on backend '{cluster.backend}'", todo)
    return Kube(where.context, where.namespace)


def _head(kube: Kube, run: Run) -> dict[str, Any]:
    from runner.kube import names
    from runner.kube.client import PODS

    found = kube.select(PODS, f"{names.of_run(run.id)},{names.ROLE}={names.HEAD}")
    alive = [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]
    if not alive:
        raise InputError(f"{run.id} has no machine now", allowed="a run that is at work", todo=f"runner why {run.id}")
    return alive[0]


def _pod_of_rank(run: Run, rank: int) -> str:
    stage = run.view().running
    current = stage is not None and stage.attempt == run.view().attempt
    hosts = run.bundle.stage_files.hosts(stage.name, stage.attempt) if stage is not None and current else {}
    if f"rank{rank}" not in hosts:
        known = listed(sorted(hosts)) if hosts else "none: no training is at work"
        raise InputError(f"no rank {rank} in {run.id}", allowed=known, todo=f"runner status {run.id}")
    return hosts[f"rank{rank}"]
