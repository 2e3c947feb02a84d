"""What `runner data head`, `cat`, `inspect`, `bench` and `rewrite` do."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from runner.cli.console import Commands, Output, console, print_json, print_table, say
from runner.cli.tables import plain_table
from runner.client import sources
from runner.data.survey.rows import all_rows, first_rows
from runner.data.values import json_text
from runner.errors import DataError, InputError
from runner.untrusted.visible import one_line
from runner.views import units
from runner.views.rows import Rows, fitting, is_number, seen_rows

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows that are taken as the first ones are: without a look at files that they are not in.
_FEW_ROWS = 10_000
_MOST_THREADS = 256


def named(
    what: str,
    store: str | None,
    format: str | None,
    option: Sequence[str] | None,
    csv: Sequence[str] | None,
    version: int | None,
    snapshot: int | None,
) -> sources.Named:
    """The data that the user means."""
    told = sources.Told(format, tuple(option or ()), tuple(csv or ()), version, snapshot)
    return sources.named(what, told, store)


def names(columns: str | None) -> tuple[str, ...] | None:
    """``a,b`` as names. Raises InputError: there is none."""
    if columns is None:
        return None
    found = tuple(filter(None, (name.strip() for name in columns.split(","))))
    if not found or len(set(found)) < len(found):
        raise InputError(f"--columns {columns!r}", allowed="names with commas between, each once", todo="name some")
    return found


def head(data: sources.Named, number: int, columns: Sequence[str] | None, output: Output) -> None:
    """Show the first rows."""
    try:
        rows = seen_rows(data.name, first_rows(data.looked, number, columns))
    except UnicodeDecodeError as error:
        raise _no_text(data, error) from error
    if output is Output.JSON:
        _print_document(rows)
    else:
        _print_rows(rows)


def cat(data: sources.Named, columns: Sequence[str] | None, limit: int | None) -> None:
    """Print rows as they are read."""
    batches: Iterable[pa.RecordBatch]
    if limit is not None and limit <= _FEW_ROWS:
        batches = first_rows(data.looked, limit, columns).to_batches()
    else:
        batches = all_rows(data.looked, columns)
    lines = itertools.chain.from_iterable(map(json_text.rows, batches))
    try:
        for line in itertools.islice(lines, limit):
            sys.stdout.write(f"{line}\n")
    except UnicodeDecodeError as error:
        raise _no_text(data, error) from error
    sys.stdout.flush()


def inspect(data: sources.Named, columns: Sequence[str] | None, store: str | None, output: Output) -> None:
    """Look at data and measure a sample of it."""
    from runner.data.survey.survey import survey

    _warn_if_busy()
    seen = survey(data.looked, columns)
    if output is Output.JSON:
        from runner.views.documents import survey_document

        print_json(survey_document(seen, data.name, data.told.words))
        return
    from runner.cli.survey_screen import print_survey

    print_survey(seen, data.name, Commands(store), data.told.words)


def bench(
    data: sources.Named,
    columns: Sequence[str] | None,
    batch_size: int,
    threads: Sequence[int],
    seconds: float,
    output: Output,
) -> None:
    """Measure the stream in several settings."""
    from runner.data.survey.bench import Plan, limit_of, results
    from runner.data.survey.rows import manifest_of
    from runner.views.knobs import shown

    manifest = manifest_of(data.looked, None)
    if columns is not None:
        manifest = manifest.select(columns)
    if not manifest.rows:
        raise DataError("no rows", allowed="at least one row", todo="check the data", where=data.name)
    _warn_if_busy()
    plan = Plan(manifest, batch_size, threads, seconds)
    rates = limit_of(plan)
    row_bytes = rates.decoded / max(rates.rows, 1)
    found = list(results(plan, row_bytes, lambda setting: say(f"measuring {shown(setting)}", err=True)))
    if output is Output.JSON:
        from runner.views.documents import bench_document

        print_json(bench_document(found, rates, data.name, batch_size))
        return
    from runner.cli.survey_screen import print_bench

    print_bench(found, rates)


def _warn_if_busy() -> None:
    """Say so where other programs want all processors: what is measured then is lower than it is alone."""
    if not hasattr(os, "getloadavg"):
        return
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores:
        say(f"other programs keep this machine busy (load {load:.0f} on {units.things(cores, 'core')})", err=True)


def whole_numbers(text: str) -> tuple[int, ...]:
    """``1,2`` as numbers. Raises InputError: one is none, or below 1."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and part.isascii() and 0 < int(part) <= _MOST_THREADS for part in parts):
        allowed = f"whole numbers from 1 to {_MOST_THREADS} with commas between"
        raise InputError(f"--threads {text!r}", allowed=allowed, todo="write 1,2")
    return tuple(dict.fromkeys(map(int, parts)))


def rewrite(
    data: sources.Named,
    name: str,
    columns: Sequence[str] | None,
    workers: int,
    cluster: str | None,
    store: str | None,
    *,
    detach: bool,
    dry_run: bool,
    output: Output,
) -> None:
    """Submit the job that writes data anew, and follow it unless detached."""
    from runner.cli import actions
    from runner.client.rewriting import rewrite_job

    job = rewrite_job(data, name, columns, workers)
    actions.submit(
        job, cluster, store, [], actions.Beginning(), detach=detach, inline=False, dry_run=dry_run, output=output
    )


def _no_text(data: sources.Named, error: UnicodeDecodeError) -> DataError:
    return DataError(
        f"a string that is not UTF-8 ({error.reason})",
        allowed="text in UTF-8, or a column of type binary",
        todo="mend the file",
        where=data.name,
    )


def _print_rows(rows: Rows) -> None:
    """As many columns as the lines have room for."""
    out = console()
    heads = [one_line(name) for name, _ in rows.columns]
    shown = fitting(rows, heads, out.width)
    table = plain_table()
    for name, (_, kind) in zip(heads[:shown], rows.columns, strict=False):
        number = is_number(kind)
        table.add_column(Text(name), justify="right" if number else "left", overflow="fold", no_wrap=number)
    for row in range(len(rows.lines)):
        table.add_row(*(Text(rows.cells[i][row]) for i in range(shown)))
    print_table(out, table)
    if not rows.lines:
        say("no rows")
    if shown < len(heads):
        out.print(Text(f"and {len(heads) - shown} more columns: {', '.join(heads[shown:])}", "dim"), soft_wrap=True)


def _print_document(rows: Rows) -> None:
    """As `print_json`, but that the rows are JSON already, with digits that no other number of Python's has."""
    columns = [{"name": name, "type": kind} for name, kind in rows.columns]
    start = json.dumps({"data": rows.name, "columns": columns}, indent=2).removesuffix("\n}")
    lines = ",\n    ".join(rows.lines)
    inner = f"[\n    {lines}\n  ]" if lines else "[]"
    sys.stdout.write(f'{start},\n  "rows": {inner}\n}}\n'.replace("\x7f", "\\u007f"))
    sys.stdout.flush()
