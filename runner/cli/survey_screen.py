"""How `runner data inspect` and `bench` look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from runner.cli.console import Commands, console, print_table
from runner.cli.summary import print_commands
from runner.cli.tables import plain_table
from runner.untrusted.visible import one_line
from runner.views import advice, knobs, units

if TYPE_CHECKING:
    from runner.data.survey.bench import Result
    from runner.data.survey.rates import Rates
    from runner.data.survey.survey import Survey
    from runner.data.survey.units import Spread

_UNITS = {"parquet": "row group", "ipc": "record batch", "files": "file"}
_TYPE = 40


def print_survey(seen: Survey, name: str, commands: Commands, told: Sequence[str] = ()) -> None:
    """Facts, columns, rates, then what limits and what helps."""
    out = console()
    rows = "rows not counted" if seen.rows is None else units.things(seen.rows, "row")
    head = f"{name}: {seen.format}, {units.things(seen.files, 'file')}, {units.size(seen.bytes)}, {rows}"
    out.print(Text(one_line(head), "bold"), soft_wrap=True)
    facts = plain_table("", "")
    facts.show_header = False
    for what, words in [*_facts(seen), *_measured(seen)]:
        facts.add_row(Text(what, "dim"), Text(words))
    print_table(out, facts)
    out.print()
    _print_columns(seen)
    out.print()
    for each in advice.advice(seen, name, told):
        out.print(Text(f"- {each.words}"), soft_wrap=True)
        if each.command:
            print_commands(out, [commands(*each.command)])


def _facts(seen: Survey) -> list[tuple[str, str]]:
    held, checks = seen.units, seen.checks
    parts = [units.things(held.count, _UNITS.get(seen.format, "unit"))]
    if held.rows is not None:
        parts.append(f"rows {_spread(held.rows, units.count)}")
    parts.append(f"decoded {_spread(held.bytes, units.size)}")
    found = [("units", "; ".join(parts)), ("files", _spread(held.files, units.size))]
    found.append(("order", f"{units.things(held.lanes, 'lane')} with blocks of {units.size(held.block_bytes)}"))
    verified = []
    if checks.pages:
        share = "all" if checks.checked == checks.pages else "no" if not checks.checked else "some"
        verified.append(f"{share} pages have checksums (looked at: {units.things(checks.pages, 'page')})")
    if checks.hashes or checks.tags:
        told = "a hash" if checks.hashes else "a tag"
        verified.append(f"{told} of {units.things(checks.hashes or checks.tags, 'file')} is known")
    return [*found, ("verified", "; ".join(verified) or "nothing can be")]


def _spread(numbers: Spread, shown: Callable[[float], str]) -> str:
    few = (numbers.smallest, numbers.median, numbers.largest)
    return shown(few[0]) if len(set(few)) == 1 else f"{shown(few[0])} to {shown(few[2])}, median {shown(few[1])}"


def _measured(seen: Survey) -> list[tuple[str, str]]:
    rates = seen.rates
    if rates is None or not advice.is_measured(seen):
        return [("rates", "too little data to measure")]
    read = f"{'fetched' if rates.remote else 'read'} {units.speed(rates.fetch)}"
    decode = "" if rates.decode is None else f"decoded {units.speed(rates.decode)} by one thread, "
    stream = f"streamed {units.speed(rates.stream)} ({units.things(rates.threads, 'thread')}, shuffled, {rates.as_})"
    found = [("rates", f"{read}, {decode}{stream}; a sample of {units.size(rates.decoded)}")]
    found += [(f"limit: {each.what}", each.words) for each in advice.limits(seen)]
    times, size = advice.factor(seen), advice.size_factor(seen)
    if times is not None and size is not None:
        found.append(("re-encoded", f"{times:.2f} times as fast to decode, {units.percent(size)} of the bytes"))
    return found


def _print_columns(seen: Survey) -> None:
    heads: tuple[str, ...] = ("column", "type", "encodings", "codecs", "in files", "decoded", "nulls")
    stored = any(column.stored is not None for column in seen.columns)
    heads = heads if stored else heads[:2]
    table = plain_table(*heads, right=("in files", "decoded", "nulls"))
    for column in seen.columns:
        kind = one_line(column.type)
        cells = [one_line(column.name), kind if len(kind) <= _TYPE else f"{kind[:_TYPE]}…"]
        if stored:
            cells += [", ".join(column.encodings).lower(), ", ".join(column.codecs).lower()]
            cells += [_size(column.stored), _size(column.decoded)]
            cells.append("" if column.nulls is None else units.count(column.nulls))
        table.add_row(*map(Text, cells))
    out = console()
    print_table(out, table)
    if 0 < seen.footers < seen.files:
        out.print(Text(f"sizes and nulls of columns: of {seen.footers} of the files", "dim"), soft_wrap=True)


def _size(number: int | None) -> str:
    return "" if number is None else units.size(number)


def print_bench(results: Sequence[Result], rates: Rates) -> None:
    """A line for each setting, then which knob helps."""
    heads = ("decoded", "of limit", "rows", "waiting", "CPU s/GB", "first batch", "memory")
    table = plain_table("setting", *heads, right=heads)
    for one in results:
        share = knobs.of_limit(one, rates)
        cells = [knobs.shown(one.setting), units.speed(one.bytes_s), "" if share is None else units.percent(share)]
        cells += [units.rate(one.rows_s, "rows"), units.percent(one.waiting), f"{one.cpu_s_gb:.2f}"]
        cells += [f"{one.first_s:.2f} s", units.size(one.peak_bytes)]
        table.add_row(*map(Text, cells))
    out = console()
    print_table(out, table)
    if rates.decode is not None:
        out.print(Text(f"limit: one thread that only decodes, {units.speed(rates.decode)}", "dim"), soft_wrap=True)
    for words in knobs.knobs(results, rates):
        out.print(Text(f"- {words}"), soft_wrap=True)
