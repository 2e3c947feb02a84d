"""The command line: parse, call, print. A command loads only what it needs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from runner.cli import cluster_commands, data_commands, keep_commands
from runner.cli.complete import (
    complete_cluster,
    complete_dataset,
    complete_job,
    complete_ran,
    complete_run,
    complete_stage,
    complete_state,
)
from runner.cli.console import Output, SubmitOutput, console, debugged, print_json, say
from runner.code import extras
from runner.errors import Interrupted, RunnerError, internal
from runner.process import interrupts, streams
from runner.untrusted import logger

_VERBOSE = ("-v", "-vv", "--verbose")
#: Commands of which one wants to know whether they have started anything when they are interrupted.
_STARTING = ("submit", "resume")


def _with_values(arguments: list[str]) -> list[str]:
    """An option whose value may be left out: ``--force`` in the last place means every stage."""
    bare = {"--force"}
    return [
        f"{each}=" if each in bare and (i + 1 == len(arguments) or arguments[i + 1].startswith("-")) else each
        for i, each in enumerate(arguments)
    ]


def _verbose_first(arguments: list[str]) -> list[str]:
    """``-v`` belongs to no command of its own, so it may stand behind its name too."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    own, rest = arguments[:end], arguments[end:]
    said = [each for each in own if each in _VERBOSE]
    return [*said, *(each for each in own if each not in _VERBOSE), *rest]


class _Group(TyperGroup):
    """Turns exceptions into words and exit codes, wherever in a command they arise."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the command's name and what belongs to it."""
        return super().parse_args(ctx, _with_values(_verbose_first(args)))

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        interrupts.presses.told = True  # from here on it is told below
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, TyperException):
            raise
        except KeyboardInterrupt:
            return self._interrupted(ctx)
        except RunnerError as error:
            from runner.cli.failures import print_error

            print_error(console(sys.stderr), error)
            raise typer.Exit(error.exit_code) from None
        except Exception as error:
            code = streams.code_of(error)
            if code is not None:
                raise typer.Exit(code) from None
            if debugged():
                raise  # a debugger wants it
            if interrupts.presses.any and isinstance(error, ImportError):  # an import that tells it in other words
                return self._interrupted(ctx)
            from runner.cli.failures import print_error

            found = extras.missed(error) or internal(error)
            print_error(console(sys.stderr), found)
            raise typer.Exit(found.exit_code) from None

    def _interrupted(self, ctx: Any) -> NoReturn:
        if ctx.invoked_subcommand in (None, *_STARTING):
            interrupts.say_nothing_started()
        raise typer.Exit(Interrupted.exit_code) from None


_SETTINGS = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(
    name="runner",
    cls=_Group,
    context_settings=_SETTINGS,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Data preparation and training: one Python file, on a laptop or a cluster.",
)
data = typer.Typer(context_settings=_SETTINGS, no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data, name="data", help="Look at data, and at what is in the store.")

_RUN_HELP = "An id, a unique part of one, or @last."
RunName = Annotated[str, typer.Argument(metavar="[RUN]", help=_RUN_HELP, autocompletion=complete_run)]
StoreUrl = Annotated[str | None, typer.Option("--store", metavar="URL", help="The store, instead of the project's.")]
Format = Annotated[Output, typer.Option("-o", "--output", help="json: one JSON document on standard output.")]
StageName = Annotated[str | None, typer.Option("--stage", help="Only this stage.", autocompletion=complete_stage)]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Return as soon as the run is started.")]


def _examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def _version(wanted: bool) -> None:
    if wanted:
        from runner import __version__

        say(f"runner {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[
        int,
        typer.Option("-v", "--verbose", count=True, help="Say more; -vv: all. See RUNNER_LOG."),
    ] = 0,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Data preparation and training: one Python file, on a laptop or a cluster."""
    least = logger.level(verbose)
    logger.configure(least)
    if verbose:
        os.environ[logger.VARIABLE] = least  # of what is started on this machine, too


@app.command(
    epilog=_examples(
        "runner submit jobs/example.py",
        "runner submit example --dry-run",
        "runner submit example --set lr=1e-3 --set train.workers=2",
        "runner submit example --inline        (breakpoint() works)",
        "runner submit example --force tokens  (make it again)",
        "runner submit example --detach -o json",
        "runner submit example --cluster red --queue night --priority low",
        "runner submit example --from r261123-18:best --set lr=1e-5",
    )
)
def submit(
    job: Annotated[
        str,
        typer.Argument(
            metavar="JOB", help="A job file, or its stem in jobs/; FILE:NAME of several.", autocompletion=complete_job
        ),
    ],
    cluster: Annotated[str | None, typer.Option(help="Instead of the job's.", autocompletion=complete_cluster)] = None,
    store: StoreUrl = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a config field, or STAGE.FIELD.")
    ] = None,
    queue: Annotated[str | None, typer.Option(help="On Kubernetes: a LocalQueue, instead of the cluster's.")] = None,
    priority: Annotated[str | None, typer.Option(help="On Kubernetes: a class, instead of the cluster's.")] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN[:CHECKPOINT]",
            help="Begin with the weights of another run: best, last or a step.",
            autocompletion=complete_run,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--with-optimizer", help="With --from: with all else that is tracked there, too.")
    ] = False,
    detach: Detach = False,
    inline: Annotated[bool, typer.Option("--inline", help="Run every stage in this process.")] = False,
    force: Annotated[
        str | None,
        typer.Option(metavar="[STAGE]", help="Make it although it exists; without a name every Prep, said last."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all, show the plan, start nothing.")] = False,
    output: Annotated[
        SubmitOutput, typer.Option("-o", "--output", help="json; or yaml with --dry-run: what would be applied.")
    ] = SubmitOutput.TEXT,
) -> None:
    """Run a job and follow it to its end.

    Everything is checked before anything starts. Ctrl-C cancels the run; with --detach it goes on by itself.
    """
    from runner.cli import actions

    turn = {"cluster.queue": queue, "cluster.priority": priority}
    changes = [*(changes or []), *(f"{name}={value}" for name, value in turn.items() if value is not None)]
    if output is SubmitOutput.YAML:
        actions.print_objects(job, cluster, store, changes, dry_run=dry_run)
        return
    actions.submit(
        job,
        cluster,
        store,
        changes,
        actions.Beginning(start, everything),
        detach=detach,
        inline=inline,
        dry_run=dry_run,
        output=Output(output.value),
        force=True if force == "" else force or False,
    )


@app.command("why-run", epilog=_examples("runner why-run tokens", "runner why-run tokens example --set vocab=512"))
def why_run(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="A Prep stage of the job.")],
    job: Annotated[
        str | None,
        typer.Argument(metavar="[JOB]", help="As of submit; without it the only job.", autocompletion=complete_job),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a config field, or STAGE.FIELD.")
    ] = None,
    store: StoreUrl = None,
    output: Format = Output.TEXT,
) -> None:
    """Say why a submit would make a preparation again, or skip it.

    What has changed since it was made, file by file and name by name; or on what grounds its result is found.
    """
    from runner.cli import actions

    actions.why_run(stage, job, changes or [], store, output)


@app.command(
    epilog=_examples(
        "runner ps", "runner ps -n 100", "runner ps --all -o json", "runner ps --job digits --state failed --since 2d"
    )
)
def ps(
    number: Annotated[int, typer.Option("-n", min=0, help="How many of the runs that have ended; 0: none.")] = 20,
    everything: Annotated[bool, typer.Option("--all", "-a", help="All of them.")] = False,
    job: Annotated[str | None, typer.Option(help="Only of this job.", autocompletion=complete_ran)] = None,
    state: Annotated[
        str | None, typer.Option(help="Only in this state: running, succeeded, ...", autocompletion=complete_state)
    ] = None,
    user: Annotated[str | None, typer.Option(help="Only what this user has submitted.")] = None,
    since: Annotated[str | None, typer.Option(help="Only what was submitted since: 2d, 12h, 2026-11-20.")] = None,
    store: StoreUrl = None,
    output: Format = Output.TEXT,
) -> None:
    """List runs, the newest first.

    Those that are still going are always among them, and those that are lost: their processes are gone.
    """
    from runner.cli import queries
    from runner.record.finding import Wanted

    opened, wanted = queries.open_store(store), Wanted.of(job, state, user, since)
    queries.ps(opened, None if everything else number, queries.commands_for(opened, store), output, wanted)


@app.command(epilog=_examples("runner status", "runner status @last~1", "runner status r261123-18 -o json"))
def status(run: RunName = "@last", store: StoreUrl = None, output: Format = Output.TEXT) -> None:
    """Show a run and where its results lie."""
    from runner.cli import queries

    found = queries.open_run(run, store)
    queries.status(found, queries.commands_for(found.bundle.root, store), output)


@app.command(
    epilog=_examples(
        "runner logs",
        "runner logs -f",
        "runner logs r261123-18 --stage train --rank 1",
        "runner logs --since 10m --tail 50",
    )
)
def logs(
    run: RunName = "@last",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the run has ended.")] = False,
    stage: StageName = None,
    rank: Annotated[int | None, typer.Option(min=0, help="Only this rank of training stages.")] = None,
    tail: Annotated[int | None, typer.Option("--tail", "-n", min=0, metavar="N", help="Only the last N lines.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Only what came after: 10m, 2h, or 2026-11-23T19:35.")
    ] = None,
    timestamps: Annotated[bool, typer.Option("--timestamps", "-t", help="When, in front of each line; UTC.")] = False,
    store: StoreUrl = None,
    output: Format = Output.TEXT,
) -> None:
    """Print what the processes of a run printed.

    In the order of time over all of them; of a progress bar what stood there last.
    """
    from runner.cli import queries

    found = queries.open_run(run, store)
    commands = queries.commands_for(found.bundle.root, store)
    queries.logs(found, stage, rank, follow, commands, output, tail=tail, since=since, timestamps=timestamps)


@app.command(epilog=_examples("runner metrics", "runner metrics --plot loss.png", "runner metrics -o json"))
def metrics(
    run: RunName = "@last",
    stage: StageName = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw them into this .png, .svg or .pdf.")] = None,
    store: StoreUrl = None,
    output: Format = Output.TEXT,
) -> None:
    """Print or draw the metrics of a run's training."""
    from runner.cli import queries

    found = queries.open_run(run, store)
    queries.metrics(found, stage, plot, queries.commands_for(found.bundle.root, store), output)


@app.command(epilog=_examples("runner cancel @last", "runner cancel r261123-181119"))
def cancel(
    run: Annotated[str, typer.Argument(metavar="RUN", help=_RUN_HELP, autocompletion=complete_run)],
    store: StoreUrl = None,
    gone: Annotated[bool, typer.Option("--gone", help="its machines are gone for good: only say so")] = False,
    output: Format = Output.TEXT,
) -> None:
    """End a run, and wait until nothing of it is left."""
    from runner.cli import actions, queries

    found = queries.open_run(run, store)
    actions.cancel(found, queries.commands_for(found.bundle.root, store), output, gone=gone)


@app.command(
    epilog=_examples(
        "runner resume",
        "runner resume r261123-18 --new-code",
        "runner resume @last --set lr=1e-4 --workers 4",
        "runner resume @last --until epochs=20      (also of a run that succeeded)",
    )
)
def resume(
    run: RunName = "@last",
    detach: Detach = False,
    new_code: Annotated[
        bool, typer.Option("--new-code", help="With the project's files as they are now, not as they were.")
    ] = False,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a config field, or STAGE.FIELD.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Ranks of the training stage.")] = None,
    until: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Train further: a config field that says how far the training goes."),
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="With --new-code: a config field that is gone on purpose.")
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Also a run that somebody else has submitted.")] = False,
    store: StoreUrl = None,
    output: Format = Output.TEXT,
) -> None:
    """Go on with a run that ended.

    It failed, was cancelled or was lost. Stages that are done stay done; training goes on at the exact sample.
    One that succeeded is trained further with --until.
    """
    from runner.cli import actions, queries

    wanted = actions.Wanted(new_code, changes or [], workers, until or [], drop or [], trust)
    actions.resume(queries.open_run(run, store), store, wanted, detach=detach, output=output)


@data.command("ls", epilog=_examples("runner data ls", "runner data ls tokens", "runner data ls -o json"))
def data_ls(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Show the versions of this one.", autocompletion=complete_dataset),
    ] = None,
    store: StoreUrl = None,
    output: Format = Output.TEXT,
) -> None:
    """List the datasets that were published in the store."""
    from runner.cli import queries

    queries.datasets(queries.open_store(store), name, output)


@app.command(epilog=_examples("runner init myproject", "cd myproject", "runner submit example"))
def init(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="A folder that does not exist, or is empty.")],
    output: Format = Output.TEXT,
) -> None:
    """Write a small project that runs.

    A job, its dataset, a cluster, and the same from a plain Python script.
    """
    from runner.cli.scaffold import next_words, write_project

    files = write_project(name)
    if output is Output.JSON:
        print_json({"folder": str(name.resolve()), "files": files})
    else:
        say("\n".join([f"wrote {name}", *(f"  {file}" for file in files), *next_words(name)]))


data_commands.add_to(data)
keep_commands.add_to(app)
cluster_commands.add_to(app)


def main() -> None:
    """As the console script (`runner.cli.command`), which listens for Ctrl-C before this module is loaded."""
    interrupts.listen()
    streams.make_whole()
    app(prog_name="runner")
