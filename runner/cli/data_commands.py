"""The commands that look at data and write it anew. They are added to `runner data` by `commands`."""

from __future__ import annotations

from typing import Annotated

import typer

from runner.cli.complete import complete_cluster, complete_dataset
from runner.cli.console import Output

What = Annotated[
    str,
    typer.Argument(
        metavar="URL|DATASET",
        help="A path, URL or glob; or a dataset of the store, NAME or NAME@VERSION.",
        autocompletion=complete_dataset,
    ),
]
#: Rows, and numbers of versions, that a command takes.
_MOST = 2**63 - 1
Columns = Annotated[
    str | None, typer.Option("--columns", metavar="A,B", help="Only these columns, in this order.", show_default=False)
]
DataFormat = Annotated[
    str | None, typer.Option("--format", metavar="F", help="parquet, ipc, jsonl, csv, text, tar, ...; else by ending.")
]
Options = Annotated[
    list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="A storage option of fsspec; may be repeated.")
]
Dialect = Annotated[
    list[str] | None,
    typer.Option("--csv", metavar="KEY=VALUE", help="Of CSV: delimiter=';', header=false, ...; may be repeated."),
]
Version = Annotated[
    int | None,
    typer.Option("--version", metavar="N", min=0, max=_MOST, help="Of a Delta Lake table.", show_default=False),
]
Snapshot = Annotated[
    int | None,
    typer.Option("--snapshot", metavar="ID", min=0, max=_MOST, help="Of an Iceberg table.", show_default=False),
]
StoreUrl = Annotated[str | None, typer.Option("--store", metavar="URL", help="The store, instead of the project's.")]
Format = Annotated[Output, typer.Option("-o", "--output", help="json: one JSON document on standard output.")]


def head(
    what: What,
    number: Annotated[int, typer.Option("-n", min=0, max=_MOST, help="How many rows.")] = 10,
    columns: Columns = None,
    format: DataFormat = None,
    option: Options = None,
    csv: Dialect = None,
    version: Version = None,
    snapshot: Snapshot = None,
    store: StoreUrl = None,
    output: Format = Output.TEXT,
) -> None:
    """Show the first rows.

    Long text, bytes and lists are shortened, which is shown; `runner data cat` and -o json have all of them.
    """
    from runner.cli import data

    data.head(data.named(what, store, format, option, csv, version, snapshot), number, data.names(columns), output)


def cat(
    what: What,
    columns: Columns = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=0, max=_MOST, metavar="N", help="Only the first N rows.")
    ] = None,
    format: DataFormat = None,
    option: Options = None,
    csv: Dialect = None,
    version: Version = None,
    snapshot: Snapshot = None,
    store: StoreUrl = None,
) -> None:
    """Print rows as JSON lines, every value whole.

    Numbers with all digits, bytes as base64, times in ISO 8601, NaN and the infinities as strings.
    """
    from runner.cli import data

    data.cat(data.named(what, store, format, option, csv, version, snapshot), data.names(columns), limit)


def inspect(
    what: What,
    columns: Columns = None,
    format: DataFormat = None,
    option: Options = None,
    csv: Dialect = None,
    version: Version = None,
    snapshot: Snapshot = None,
    store: StoreUrl = None,
    output: Format = Output.TEXT,
) -> None:
    """Say what data is like, how fast it is read on this machine, what limits that, and what helps.

    A sample of it is read several times, and encoded anew on trial; nothing is written.
    """
    from runner.cli import data

    data.inspect(data.named(what, store, format, option, csv, version, snapshot), data.names(columns), store, output)


def bench(
    what: What,
    columns: Columns = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, max=2**31 - 1, help="Rows of a batch.")] = 32,
    threads: Annotated[str, typer.Option(metavar="1,2", help="How many decode: each is measured.")] = "1,2",
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="Of each setting.")] = 10.0,
    format: DataFormat = None,
    option: Options = None,
    csv: Dialect = None,
    version: Version = None,
    snapshot: Snapshot = None,
    store: StoreUrl = None,
    output: Format = Output.TEXT,
) -> None:
    """Measure the stream of data on this machine, and say which knob helps.

    Each setting is read in a process of its own, by a consumer that touches every byte.
    """
    from runner.cli import data

    counts = data.whole_numbers(threads)
    source = data.named(what, store, format, option, csv, version, snapshot)
    data.bench(source, data.names(columns), batch_size, counts, seconds, output)


def rewrite(
    what: What,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the dataset that it becomes.")],
    columns: Columns = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that write.")] = 1,
    cluster: Annotated[str | None, typer.Option(help="Where it runs.", autocompletion=complete_cluster)] = None,
    format: DataFormat = None,
    option: Options = None,
    csv: Dialect = None,
    version: Version = None,
    snapshot: Snapshot = None,
    store: StoreUrl = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return as soon as the run is started.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all, show the plan, start nothing.")] = False,
    output: Format = Output.TEXT,
) -> None:
    """Write data anew as a dataset of the store, in the encoding that decodes fastest.

    A run as any other, of one preparation that changes no value. `runner data inspect` says what it would bring.
    """
    from runner.cli import data

    source = data.named(what, store, format, option, csv, version, snapshot)
    data.rewrite(
        source, name, data.names(columns), workers, cluster, store, detach=detach, dry_run=dry_run, output=output
    )


def add_to(data: typer.Typer) -> None:
    """Add the commands to `runner data`."""

    def examples(*lines: str) -> str:
        return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)

    data.command(
        epilog=examples(
            "runner data head tokens",
            "runner data head 's3://lake/raw/*.parquet' -n 3 --columns id,text",
            "runner data head lake/events --format delta --version 12 -o json",
            "runner data head lake/a.csv --csv 'delimiter=;' --csv header=false",
        )
    )(head)
    data.command(
        epilog=examples("runner data cat tokens | jq .id", "runner data cat lake/a.csv --columns id --limit 100")
    )(cat)
    data.command(
        epilog=examples(
            "runner data rewrite 's3://lake/raw/*.parquet' tokens",
            "runner data rewrite lake/a.csv table --columns id,text --workers 4",
        )
    )(rewrite)
    data.command(
        epilog=examples(
            "runner data inspect tokens",
            "runner data inspect 's3://lake/raw/*.parquet' --columns id,text",
            "runner data inspect lake/a.csv -o json",
        )
    )(inspect)
    data.command(
        epilog=examples("runner data bench tokens", "runner data bench 'lake/*.parquet' --threads 1,2,4 --seconds 5")
    )(bench)
