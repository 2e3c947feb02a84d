"""How far the stages of a run are at one moment, without reading all that they have ever written."""

from __future__ import annotations

from typing import Any

from runner.client.run import Run
from runner.record import Bundle, StageView
from runner.record.rows import rows_of
from runner.views.progress import Progress

#: Segments of metrics that are read, the last ones: enough rows to tell a rate.
_SEGMENTS = 3


def progress_now(run: Run, stage: StageView) -> Progress:
    """The progress of a running stage."""
    kinds = {each.name: each.kind.lower() for each in run.bundle.known_spec().job.stages}
    kind = kinds.get(stage.name, "train")
    progress = Progress(stage.name, kind)
    for row in _last_rows(run.bundle, stage, "driver" if kind == "prep" else "rank0"):
        progress.add(row)
    return progress


def _last_rows(bundle: Bundle, stage: StageView, writer: str) -> list[dict[str, Any]]:
    folder = bundle.stage_files.segments(stage.name, stage.attempt, "metrics", writer)
    return [row for name in bundle.stage_files.offsets(folder)[-_SEGMENTS:] for row in rows_of(bundle, folder, name)]
