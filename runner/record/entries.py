"""What a run's log and spec hold, by shape: which fields there are, and of what kind. See `shapes`.

Only fields that some reader uses are named. Others may be there, and so may entries of a kind that is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping

from runner.untrusted.names import (
    ATTEMPT,
    CHECKPOINT,
    CODE_FILE,
    DATASET,
    JOB,
    MODULE,
    NAMESPACE,
    RUN_ID,
    SPEC_FILE,
    STAGE,
    STEP,
    VERSION,
)
from runner.untrusted.shapes import (
    Misshapen,
    Shape,
    anything,
    count,
    flag,
    mapping,
    maybe,
    named,
    number,
    one_of,
    record,
    several,
    text,
    value,
    whole,
)

_stage, _job, _run, _dataset = named(STAGE), named(JOB), named(RUN_ID), named(DATASET)
_leg, _attempt = whole(0, 9999), whole(0, 10**ATTEMPT.longest - 1)
_step = whole(0, 10**STEP.longest - 1)
_legs = several(several(_stage))
_CHECKPOINTS = "checkpoints/"


def checkpoint_key(value: object, at: str) -> None:
    """The folder of a checkpoint in a bundle."""
    stage, _, name = str(value).removeprefix(_CHECKPOINTS).partition("/")
    if not (str(value).startswith(_CHECKPOINTS) and STAGE.fits(stage) and CHECKPOINT.fits(name)):
        raise Misshapen(f"{at} is no folder of a checkpoint, such as checkpoints/train/000000120-1")


ERROR = record(
    {"class": text, "message": text},
    {
        "cause": text, "trace": maybe(text), "rank": maybe(count), "stage": maybe(text), "causes": several(text),
        "parts": maybe(record({"found": text}, {"allowed": text, "todo": text, "where": text})),
    },
)  # fmt: skip
_measured = mapping(value)
_counted = maybe(number(-1.0))  # rows of lines may be uncounted, which is -1

#: What a stage says at its end.
RESULT = record(
    {},
    {
        "skipped": flag, "seconds": number(), "key": maybe(text), "outputs": mapping(named(VERSION), _dataset),
        "places": mapping(text, _dataset), "rows_in": _counted, "processed": _counted, "filtered": _counted,
        "quarantined": _counted, "bytes_in": _counted, "bytes_out": _counted, "rows_out": mapping(number(-1.0)),
        "tasks": _counted, "tasks_reused": _counted, "notes": several(text), "metrics": maybe(_measured),
        "steps": count, "epochs": number(), "samples": count, "checkpoint": maybe(text), "best": maybe(text),
    },
)  # fmt: skip

_at = {"leg": _leg, "attempt": _attempt}

#: Kind of an entry -> its data.
ENTRIES: Mapping[str, Shape] = {
    "submitted": record(
        {"job": _job, "legs": _legs}, {"by": maybe(text), "inline": flag, "sealed": anything, "signed": maybe(text)}
    ),
    "supervisor": record(
        {"host": text, "pid": whole(1, 2**31), "started": number()},
        {"inline": flag, "machine": text, "boot": text, "space": text, "held": flag},
    ),
    "supervisor-error": record({}, {"message": text, "class": text, "trace": maybe(text)}),
    "attempt": record(_at, {"because": text, "causes": several(text)}),
    "driver": record(_at, {"host": text}),
    "stage-started": record({"stage": _stage, "attempt": _attempt}),
    "stage-done": record({"stage": _stage, "result": RESULT}, {"attempt": _attempt}),
    "stage-failed": record({"stage": _stage, "error": ERROR}, {"attempt": _attempt}),
    "driver-failed": record({**_at, "error": ERROR}),
    "checkpoint": record(
        {"stage": _stage, "step": _step, "key": checkpoint_key, "metrics": _measured, "best": flag, "sha256": text}
    ),
    "dataset-made": record({"name": _dataset}, {"id": named(VERSION)}),
    "leg-done": record(_at),
    "driver-left": record(_at),
    "nearly-done": record({}),
    "prepared": record({"leg": _leg}, {"attempt": _attempt}),
    "cancel": record({}, {"by": text}),
    "resumed": record(
        {},
        {
            "by": maybe(text), "code": maybe(named(CODE_FILE)), "spec": maybe(named(SPEC_FILE)),
            "again": maybe(several(_stage)), "sealed": anything, "signed": maybe(text),
        },
    ),
    "failing": record({"error": ERROR}),
    "ended": record(
        {"state": one_of("succeeded", "failed", "cancelled")}, {"error": maybe(ERROR), "seconds": number()}
    ),
}  # fmt: skip

_span = maybe(number())

#: `spec.json`, as far as it is used by others than the run's own processes, which make definitions of it (`wire`).
SPEC = record(
    {
        "job": record(
            {"stages": several(record({"name": _stage, "kind": one_of("Prep", "Train")}, {"timeout_s": _span}))},
            {"name": _job},
        ),
        "cluster_name": text,
        "legs": _legs,
        "cluster": record(
            {"backend": text},
            {
                "address": maybe(text),
                "kubernetes": maybe(
                    record(
                        {},
                        {
                            "context": maybe(text), "namespace": named(NAMESPACE), "service_account": text,
                            "image": text, "deadline_s": _span, "queue": maybe(text), "volumes": several(anything),
                        },
                    )
                ),
            },
        ),
    },
    {
        "datasets": mapping(anything, _dataset), "lineage": record({}, {"packages": mapping(text), "user": text}),
        "optimized": whole(0, 2), "entry": mapping(named(MODULE)), "force": several(text),
        "changes": mapping(anything), "source": maybe(text),
        "plan": record({}, {"stages": several(record({"name": _stage}))}),
        "start_from": maybe(
            record(
                {},
                {
                    "run": _run,
                    "stages": mapping(
                        record({"run": _run, "step": _step}, {"key": checkpoint_key, "sha256": text, "all": flag}),
                        _stage,
                    ),
                },
            )
        ),
    },
)  # fmt: skip

#: `cluster.json`.
CLUSTER = record({}, {"mark": text, "address": text})
