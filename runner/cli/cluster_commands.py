"""The commands that speak to Kubernetes: why, doctor, queue, gc, admin. `commands` adds them to the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from runner.cli.complete import complete_cluster, complete_run
from runner.cli.console import Output

RunName = Annotated[
    str, typer.Argument(metavar="[RUN]", help="An id, a unique part of one, or @last.", autocompletion=complete_run)
]
StoreUrl = Annotated[str | None, typer.Option("--store", metavar="URL", help="The store, instead of the project's.")]
Format = Annotated[Output, typer.Option("-o", "--output", help="json: one JSON document on standard output.")]
ClusterName = Annotated[
    str, typer.Argument(metavar="CLUSTER", help="A cluster's name.", autocompletion=complete_cluster)
]
admin = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


def why(run: RunName = "@last", store: StoreUrl = None, output: Format = Output.TEXT) -> None:
    """Say what a run waits for.

    Since when, and what would help.
    """
    from runner.cli import cluster

    cluster.why(run, store, output)


def ssh(
    run: RunName = "@last",
    command: Annotated[list[str] | None, typer.Argument(metavar="[COMMAND]...", help="Instead of a shell.")] = None,
    rank: Annotated[int | None, typer.Option(help="The machine of this rank; the head without it.")] = None,
    store: StoreUrl = None,
) -> None:
    """Open a shell in a machine of a run."""
    from runner.cli import machines

    machines.ssh(run, command or ["/bin/bash"], rank, store)


def port_forward(
    run: RunName = "@last",
    port: Annotated[int, typer.Option(help="Of the head; 8265 is Ray's dashboard.")] = 8265,
    local: Annotated[int, typer.Option(help="Of this machine; 0 takes a free one.")] = 8265,
    store: StoreUrl = None,
) -> None:
    """Reach a run's Ray dashboard from here.

    A port of this machine leads to one of the run's head, until Ctrl-C.
    """
    from runner.cli import machines

    machines.port_forward(run, port, local, store)


def doctor(cluster: ClusterName, output: Format = Output.TEXT) -> None:
    """Check what runs on a cluster need."""
    from runner.cli import cluster as screens

    screens.doctor(cluster, output)


def queue(cluster: ClusterName, output: Format = Output.TEXT) -> None:
    """Show quota, who holds it and who waits."""
    from runner.cli import cluster as screens

    screens.queue(cluster, output)


def gc(
    cluster: Annotated[
        str | None,
        typer.Argument(
            metavar="[CLUSTER]", help="A cluster's name; the store without it.", autocompletion=complete_cluster
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; without this it is only shown.")] = False,
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Not only the cluster's own.")] = False,
    older: Annotated[
        str | None, typer.Option("--older-than", metavar="SPAN", help="Of results without a version; 7d.")
    ] = None,
    store: StoreUrl = None,
    output: Format = Output.TEXT,
) -> None:
    """Find what nobody needs, here or on a cluster.

    In the store: lost runs, which are ended; runs that were never submitted whole, results, tasks and shards that no
    version of a dataset names, and files that a killed process was writing. On a cluster: objects of runs that have
    ended, and of runs that no store knows.
    """
    if cluster is None:
        from runner.cli import keep, queries

        keep.gc(queries.open_store(store), output, yes=yes, older=older)
        return
    from runner.cli import cluster as screens

    screens.gc(cluster, yes=yes, everywhere=everywhere, store=store)


@admin.command()
def tenant(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the team: its namespace and queue.")],
    cpus: Annotated[float, typer.Option(help="Cores that its runs may hold at one time.")],
    memory: Annotated[str, typer.Option(help="Memory, such as 256GiB.")],
    gpus: Annotated[int, typer.Option(help="GPUs.")] = 0,
    most_cpus: Annotated[float | None, typer.Option(help="Cores while other teams leave theirs idle.")] = None,
    most_memory: Annotated[str | None, typer.Option(help="Memory then.")] = None,
    most_gpus: Annotated[int | None, typer.Option(help="GPUs then.")] = None,
    vendor: Annotated[str, typer.Option(help="Of the GPUs: nvidia or amd.")] = "nvidia",
    users: Annotated[list[str] | None, typer.Option("--user", help="Who may make runs, as the API knows them.")] = None,
    groups: Annotated[list[str] | None, typer.Option("--group", help="A group of such users.")] = None,
    kueue: Annotated[bool, typer.Option("--kueue/--no-kueue", help="Share the quota out by a Kueue queue.")] = True,
    host_paths: Annotated[bool, typer.Option("--host-paths", help="Let pods mount folders of the nodes.")] = False,
    supervisors: Annotated[int, typer.Option(help="Runs that may have a supervisor at a time, with Kueue.")] = 20,
    operator: Annotated[
        str, typer.Option("--operator-namespace", help="Of the KubeRay operator, which must reach Ray's heads.")
    ] = "kuberay-system",
    resources: Annotated[
        list[str] | None,
        typer.Option("--resource", metavar="NAME=COUNT", help="Of another kind: nvidia.com/mig-1g.10gb=4."),
    ] = None,
    storage: Annotated[str | None, typer.Option(help="That claims to volumes may have, such as 1TiB.")] = None,
    pods: Annotated[int | None, typer.Option(help="At one time; ten for each core, 500 at least.")] = None,
    scratch: Annotated[str, typer.Option(help="Disk of its node that a container may fill.")] = "100GiB",
    accounts: Annotated[
        list[str] | None, typer.Option("--service-account", help="That pods may have, beside runner and default.")
    ] = None,
    egress: Annotated[
        list[str] | None,
        typer.Option(metavar="CIDR[:PORT]", help="Where pods may call; anywhere without it."),
    ] = None,
    metadata: Annotated[
        bool, typer.Option("--metadata-address", help="Let pods ask the cloud for their machine's secrets.")
    ] = False,
    context: Annotated[str | None, typer.Option(help="Of the kubeconfig, with --apply.")] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Apply it; without this it is only printed.")] = False,
) -> None:
    """Print or apply a team's share of a cluster.

    Its namespace, quota, queue, roles, and policies of admission and of the network. Applied again, it changes what is
    there; what is not of this very team is never overwritten.
    """
    from runner.cli import cluster as screens
    from runner.kube.team.objects import Tenant

    most = None if most_memory is None else screens.bytes_of("--most-memory", most_memory)
    made = Tenant(
        name,
        cpus,
        screens.bytes_of("--memory", memory),
        gpus,
        vendor,
        tuple(users or ()),
        tuple(groups or ()),
        kueue,
        host_paths,
        operator,
        supervisors,
        most_cpus,
        most,
        most_gpus,
        tuple(screens.resource_of(each) for each in resources or ()),
        0 if storage is None else screens.bytes_of("--storage", storage),
        pods,
        screens.bytes_of("--scratch", scratch),
        tuple(accounts or ()),
        tuple(egress or ()),
        metadata,
    )
    screens.tenant(made, context, apply=apply)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (why, doctor, queue, gc):
        app.command()(command)
    app.command(context_settings={"ignore_unknown_options": True})(ssh)
    app.command("port-forward")(port_forward)
    app.add_typer(admin, name="admin", help="What a platform team does.")
