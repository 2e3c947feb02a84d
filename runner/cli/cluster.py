"""What the commands about machines print: why, doctor, queue, gc, admin tenant."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import typer
from rich.text import Text

from runner.backends.kuberay.kind import kubernetes_of
from runner.cli.console import Output, console, print_json, print_table, say
from runner.cli.queries import commands_for, look, open_run, open_store
from runner.cli.tables import plain_table
from runner.code import extras
from runner.record import Bundle, RunState
from runner.record.finding import unfinished
from runner.views import units
from runner.views.documents import reason_document

if TYPE_CHECKING:
    from runner.kube.client import Kube
    from runner.kube.team.objects import Tenant
    from runner.spec import Cluster

_GOOD = {True: ("ok", "green"), False: ("wrong", "red"), None: ("?", "yellow")}


def why(name: str, store: str | None, output: Output) -> None:
    """Print what a run waits for."""
    run = open_run(name, store)
    view = look(run, commands_for(run.bundle.root, store))
    reasons = run.why(view)
    if output is Output.JSON:
        print_json({"run": run.id, "state": view.state.value, "reasons": [reason_document(each) for each in reasons]})
        return
    out = console()
    out.print(Text(f"{run.id} {view.state}"), soft_wrap=True)
    for reason in reasons:
        since = f", for {units.seconds(time.time() - reason.since)}" if reason.since else ""
        until = f", given up in {units.seconds(max(0.0, reason.until - time.time()))}" if reason.until else ""
        out.print(Text(f"  waits for {reason.waits_for}{since}{until}"), soft_wrap=True)
        if reason.helps:
            out.print(Text(f"    {reason.helps}", "dim"), soft_wrap=True)
    if not reasons:
        words = "it has ended" if view.state.ended else "it waits for nothing"
        words = "its supervisor is gone" if view.state is RunState.LOST else words
        out.print(Text(f"  {words}"), soft_wrap=True)


def doctor(name: str, output: Output) -> None:
    """Print every check of a cluster and of the store; exit code 2 if one fails."""
    from runner.backends.kuberay import check as kuberay_check

    findings = kuberay_check.examine(_cluster(name), open_store(None))
    if output is Output.JSON:
        print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        table = plain_table("check", "", "found", "to do")
        for finding in findings:
            word, style = _GOOD[finding.good]
            table.add_row(Text(finding.name), Text(word, style), Text(finding.found), Text(finding.todo))
        print_table(console(), table)
        say(kuberay_check.IN_THE_FIRST_POD)
    if any(finding.good is False for finding in findings):
        raise typer.Exit(2)


def queue(name: str, output: Output) -> None:
    """Print the quota, and who has what."""
    from runner.kube import queue as quota

    kube = _kube(_cluster(name))
    shares, holders = quota.shares(kube), quota.holders(kube)
    if output is Output.JSON:
        runs = [{**dataclasses.asdict(holder), "since": units.iso(holder.since)} for holder in holders]
        print_json({"shares": [dataclasses.asdict(share) for share in shares], "runs": runs})
        return
    table = plain_table("from", "resource", "used", "of", "left", right=("used", "of", "left"))
    for share in shares:
        amounts = [share.used, share.limit, share.limit - share.used]
        table.add_row(Text(share.source), Text(share.resource), *(_amount(share.resource, a) for a in amounts))
    print_table(console(), table)
    table = plain_table("run", "", "since", "by", "what")
    now = time.time()
    for holder in holders:
        held = ", ".join(f"{key} {_amount(key, value)}" for key, value in holder.resources.items())
        what = holder.words or held
        table.add_row(Text(holder.run), holder.state, units.moment(holder.since, now), Text(holder.by), Text(what))
    print_table(console(), table)


def gc(name: str, *, yes: bool, everywhere: bool, store: str | None) -> None:
    """Print what is left of runs, and remove it if told so."""
    from runner.kube import gc as cluster_gc

    cluster = _cluster(name)
    kube, lake, now = _kube(cluster), open_store(store), time.time()
    judge = cluster_gc.by_log(lake.options, urlsplit(lake.url).scheme)
    found = cluster_gc.find(kube, judge, now, everywhere, cluster.gpu_resources)
    table = plain_table("namespace", "run", "is", "objects", "GPUs", "")
    failed: list[str] = []
    for left in [left for left in found if left.objects]:
        objects = ", ".join(f"{kind} {name}" for kind, name in left.objects)
        done = ""
        if left.removable:
            failures = cluster_gc.remove(kube, left) if yes else []
            failed += failures
            done = ("removed" if not failures else "not removed") if yes else "would be removed"
        table.add_row(Text(left.namespace), Text(left.run), left.judgement, Text(objects), str(left.gpus), done)
    folders = unfinished(lake, now - cluster_gc.UNFINISHED_S)
    for run_id in folders:
        if yes:
            Bundle(lake, run_id).leave_index()
            lake.delete_tree(run_id)
        done = "removed" if yes else "would be removed"
        table.add_row("", Text(run_id), "unfinished", Text(f"folder {lake.path(run_id)}"), "", done)
    print_table(console(), table)
    for left in found:
        if left.trouble:
            say(f"{left.namespace}/{left.run} in {left.store!a} cannot be judged: {left.trouble!a}", err=True)
    for words in failed:
        say(words, err=True)
    if (folders or any(left.removable for left in found)) and not yes:
        say("nothing was removed; add --yes to do it")
    raise typer.Exit(1 if failed else 0)


def tenant(made: Tenant, context: str | None, *, apply: bool) -> None:
    """Print a tenant's objects as YAML, or apply them and remove those that are no part of it any more."""
    extras.need("kube", "runner admin tenant")
    import yaml

    from runner.kube.client import Kube
    from runner.kube.team import apply as team_apply
    from runner.kube.team.objects import objects

    if not apply:
        say(yaml.safe_dump_all(objects(made), sort_keys=False), nl=False)
        return
    for line in team_apply.apply(Kube(context, made.name), made):
        say(line)


def bytes_of(option: str, words: str) -> int:
    """Bytes from '256GiB'."""
    from runner.spec.checks import Fields, parse_bytes

    return parse_bytes(Fields("runner admin tenant"), option, words)


def resource_of(words: str) -> tuple[str, int]:
    """Name and number from 'nvidia.com/mig-1g.10gb=4'."""
    from runner.spec.checks import Fields

    name, _, count = words.partition("=")
    if not count.isdecimal():
        raise Fields("runner admin tenant").fail("--resource", words, "NAME=COUNT", "such as nvidia.com/mig-1g.10gb=4")
    return name, int(count)


def _cluster(name: str) -> Cluster:
    from runner.plan.project import find_project

    cluster = find_project().cluster(name)
    todo = "see `runner submit JOB --dry-run`, which checks a job for any cluster"
    kubernetes_of(cluster, f"cluster '{name}' is of backend '{cluster.backend}'", todo)
    return cluster


def _kube(cluster: Cluster) -> Kube:
    from runner.kube.client import Kube

    where = kubernetes_of(cluster)
    return Kube(where.context, where.namespace)


def _amount(resource: str, value: float) -> str:
    if value != value:
        return "?"
    return units.size(int(value)) if resource.rpartition(".")[2] == "memory" else f"{value:g}"
