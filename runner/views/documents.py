"""What ``-o json`` prints: one document a command, of plain values. Times are UTC in ISO 8601, spans are seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from runner.record.reasons import Reason
from runner.views import advice, knobs, units
from runner.views.datasets import VersionLine
from runner.views.run import RunSeen, StageSeen

if TYPE_CHECKING:
    from runner.data.survey.bench import Result
    from runner.data.survey.rates import Rates
    from runner.data.survey.survey import Survey


def run_document(seen: RunSeen) -> dict[str, Any]:
    """A run: what `status`, `submit`, `cancel` and `resume` print."""
    return {
        "run": seen.id,
        "job": seen.job,
        "state": str(seen.state),
        "cluster": seen.cluster,
        "submitted": units.iso(seen.submitted),
        "resumed": units.iso(seen.resumed),
        "ended": units.iso(seen.ended),
        "seconds": round(seen.seconds, 3),
        "stages": [_stage(stage) for stage in seen.stages],
        "reasons": [reason_document(each) for each in seen.reasons],
        "error": None if seen.error is None else seen.error.told(),
        "bundle": seen.bundle,
        "store": seen.store,
    }


def timed(row: dict[str, Any]) -> dict[str, Any]:
    """A row of metrics with its time as all documents have them."""
    return {**row, "at": units.iso(row["at"])} if "at" in row else row


def reason_document(reason: Reason) -> dict[str, Any]:
    """What a run waits for, with its times as all documents have them."""
    return {**asdict(reason), "since": units.iso(reason.since), "until": units.iso(reason.until)}


def version_document(line: VersionLine) -> dict[str, Any]:
    """A version of a dataset: what `data ls` prints of each."""
    shown = {name: value for name, value in vars(line).items() if name not in ("made", "number", "url")}
    return {**shown, "made": units.iso(line.made), "versions": line.number, "url": line.url}


def _stage(stage: StageSeen) -> dict[str, Any]:
    return {
        "name": stage.name,
        "state": stage.state,
        "attempt": stage.attempt,
        "started": units.iso(stage.started),
        "seconds": None if stage.seconds is None else round(stage.seconds, 3),
        "progress": None if stage.progress is None else timed(stage.progress.last),
        "result": {} if stage.result is None else dict(stage.result.raw),
        "checkpoints": [asdict(each) for each in stage.checkpoints],
    }


def survey_document(seen: Survey, name: str, told: Sequence[str] = ()) -> dict[str, Any]:
    """Data that was looked at, as `data inspect` prints it. Sizes are bytes, rates bytes a second.

    Args:
        name: of the data, as commands take it; `told`: options with which they find it.
    """
    known = asdict(seen)
    measured = {"rates": known["rates"], "encoded": known["encoded"]} if advice.is_measured(seen) else {}
    return {
        "data": name,
        **{part: value for part, value in known.items() if part not in ("rates", "encoded")},
        "rates": measured.get("rates"),
        "encoded": measured.get("encoded"),
        "decode_factor": advice.factor(seen),
        "stream_factor": advice.stream_factor(seen) if advice.is_measured(seen) else None,
        "size_factor": advice.size_factor(seen),
        "limits": [asdict(each) for each in advice.limits(seen)],
        "advice": [
            {"words": each.words, "command": ["runner", *each.command] if each.command else None}
            for each in advice.advice(seen, name, told)
        ],
    }


def bench_document(results: Sequence[Result], rates: Rates, name: str, batch_size: int) -> dict[str, Any]:
    """A stream that was measured: what `data bench` prints. Rates are decoded bytes a second."""
    return {
        "data": name,
        "batch_size": batch_size,
        "decode_one_thread": rates.decode,
        "fetch": rates.fetch,
        "remote": rates.remote,
        "settings": [
            {**asdict(one.setting), **{part: value for part, value in asdict(one).items() if part != "setting"}}
            | {"of_limit": knobs.of_limit(one, rates)}
            for one in results
        ],
        "advice": knobs.knobs(results, rates),
    }
