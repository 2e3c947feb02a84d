"""What the records of results and tasks hold, by shape; see `shapes`.

Only fields that are used of a record that others may have written are named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.untrusted.names import DATASET, FILE, FOLDER, RESULT, RUN_ID, TASK, VERSION
from runner.untrusted.shapes import (
    Misshapen,
    Shape,
    anything,
    count,
    flag,
    mapping,
    maybe,
    moment,
    named,
    number,
    record,
    several,
    text,
    whole,
)

_dataset, _file, _folder, _run = named(DATASET), named(FILE), named(FOLDER), named(RUN_ID)
_rows = whole(-1)  # of lines that nobody has counted -1

_SINK = record(
    {
        "dataset": _dataset, "id": named(VERSION), "folder": _folder, "rows": _rows, "bytes": count, "files": count,
        "data": several(record({"path": _file})),
    },
    {"schema": mapping(text)},
)  # fmt: skip
_INPUT = record({"dataset": text, "id": maybe(text)}, {"shards": maybe(mapping(text))})
_COUNTS = dict.fromkeys(("rows_in", "processed", "filtered", "quarantined", "bytes_in"), number(-1.0))
#: What else a result depended on, and which packages it met.
_DEPENDED: Mapping[str, Shape] = {"deps": mapping(text), "packages": mapping(text)}

#: The record of a result.
RESULT_RECORD = record(
    {
        "key": named(RESULT), "at": moment, "run": _run, "sinks": mapping(_SINK), "code": mapping(text),
        "config": mapping(anything), "settings": mapping(anything), "inputs": mapping(_INPUT), **_DEPENDED,
    },
    {
        "counts": record(_COUNTS), "tasks": count, "tasks_of": named(RESULT), "quarantine": several(text),
        "pinned": flag, "stage": maybe(text), "bytes_in": number(-1.0),
    },
)  # fmt: skip


def _unit(value: Any, at: str) -> None:
    several(whole(-1))(value, at)
    if len(value) != 5:
        raise Misshapen(f"{at} has {len(value)} numbers, not 5")


_WRITTEN = record(
    {
        "path": _file, "folder": _folder, "rows": count, "bytes": count, "md5": text, "sha256": text,
        "units": several(_unit), "schema": text, "source": text,
    }
)  # fmt: skip

#: The record of a task.
TASK_RECORD = record(
    {
        "key": named(TASK), "run": _run, "loaded": several(text), "quarantine": maybe(text),
        "first_error": maybe(text), "first_trace": maybe(text),
        "sinks": mapping(record({"files": several(_WRITTEN), "columns": maybe(mapping(text))})),
        **_COUNTS, **_DEPENDED,
    }
)  # fmt: skip
