"""Rows of metrics, as a run's processes have written them; what is no row is passed over."""

from __future__ import annotations

from typing import Any

from runner.record.bundle import Bundle
from runner.untrusted.shapes import LARGEST, Misshapen, loads, maybe, moment, number, record, text, value
from runner.untrusted.skipped import skipped

#: Of a row of metrics what runner itself writes and reads; the user's own may be anything.
_OWN = {
    "at": moment, "step": number(), "done": number(), "stage": text, "phase": maybe(text),
    **dict.fromkeys(
        (
            "epoch", "samples", "samples_per_s", "wait_share", "steps_total", "seconds", "total",
            "rows_in", "rows_out", "processed", "filtered", "quarantined", "bytes_in",
            "fetch_requests", "fetch_retries", "fetched_bytes", "cached_bytes",
        ),
        maybe(number(-LARGEST)),
    ),
}  # fmt: skip
_ROW = record({}, _OWN)


def row_of(line: bytes | str) -> dict[str, Any]:
    """A row of metrics; what runner itself writes is not in it where it is null. Raises Misshapen if it is none."""
    row: dict[str, Any] = loads(line)
    _ROW(row, "")
    for name, part in row.items():
        if isinstance(part, int) and not isinstance(part, bool):
            value(part, name)
    return {name: part for name, part in row.items() if part is not None or name not in _OWN}


def rows_of(bundle: Bundle, folder: str, name: str) -> list[dict[str, Any]]:
    """The rows of one segment of metrics; lines that are none are passed over."""
    found = []
    for line in bundle.stage_files.segment(folder, name).splitlines():
        try:
            found.append(row_of(line))
        except Misshapen as error:
            skipped(f"{bundle.store.url}/{folder}/{name}", str(error))
    return found
