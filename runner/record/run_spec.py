"""What `spec.json` and `cluster.json` of a bundle hold, by shape; see `shapes`."""

from __future__ import annotations

from runner.record.entries import checkpoint_key
from runner.untrusted.names import DATASET, JOB, MODULE, NAMESPACE, RUN_ID, STAGE, STEP
from runner.untrusted.shapes import (
    anything,
    flag,
    mapping,
    maybe,
    named,
    number,
    one_of,
    record,
    several,
    text,
    whole,
)

_stage, _job, _run, _dataset = named(STAGE), named(JOB), named(RUN_ID), named(DATASET)
_step = whole(0, 10**STEP.longest - 1)
_legs = several(several(_stage))
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
