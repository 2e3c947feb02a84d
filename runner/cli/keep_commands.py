"""The commands for what runs have kept: checkpoints, get, rm. They are added to the command line by `commands`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runner.cli.complete import complete_kept, complete_run, complete_stage
from runner.cli.console import Output

RunName = Annotated[
    str, typer.Argument(metavar="[RUN]", help="An id, a unique part of one, or @last.", autocompletion=complete_run)
]
StageName = Annotated[str | None, typer.Option("--stage", help="Only this stage.", autocompletion=complete_stage)]
StoreUrl = Annotated[str | None, typer.Option("--store", metavar="URL", help="The store, instead of the project's.")]
Format = Annotated[Output, typer.Option("-o", "--output", help="json: one JSON document on standard output.")]


def checkpoints(
    run: RunName = "@last", stage: StageName = None, store: StoreUrl = None, output: Format = Output.TEXT
) -> None:
    """List the checkpoints of a run.

    Their steps, metrics and sizes, which one is the best, and which are still there.
    """
    from runner.cli import keep, queries

    keep.checkpoints(queries.open_run(run, store), stage, output)


def get(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="An id, a unique part of one, or @last.", autocompletion=complete_run)
    ],
    path: Annotated[str, typer.Argument(metavar="PATH", help="best, last, a step, logs, or a path in the bundle.")],
    dest: Annotated[Path, typer.Argument(metavar="[DEST]", help="A folder, or the name of the copy.")] = Path(),
    stage: StageName = None,
    store: StoreUrl = None,
    output: Format = Output.TEXT,
) -> None:
    """Copy a checkpoint, an artefact or the logs of a run.

    A checkpoint is verified. Nothing that is there already is touched.
    """
    from runner.cli import keep, queries

    keep.get(queries.open_run(run, store), path, dest, stage, output)


def rm(
    names: Annotated[
        list[str],
        typer.Argument(metavar="RUN|DATASET...", help="Runs, datasets, DATASET@VERSION.", autocompletion=complete_kept),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: StoreUrl = None,
    output: Format = Output.TEXT,
) -> None:
    """Remove runs and datasets from the store, for good.

    What would go is shown first. A run that lives, and what such a run uses, is refused.
    """
    from runner.cli import keep, queries

    keep.rm(queries.open_store(store), names, output, yes=yes)


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""

    def examples(*lines: str) -> str:
        return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)

    app.command(epilog=examples("runner checkpoints", "runner checkpoints r261123-18 -o json"))(checkpoints)
    app.command(
        epilog=examples(
            "runner get @last best",
            "runner get @last artefacts/train/sample.txt .",
            "runner get r261123-18 logs logs-of-it",
        )
    )(get)
    app.command(
        epilog=examples("runner rm r261123-18", "runner rm tokens tokens_val --yes", "runner rm tokens@9b644e90f0e1")
    )(rm)
