"""What was asked for: read by its shape, kept as it is, and changed into another."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner.record.run_spec import Beginning, ClusterMark, RunSpec
from runner.untrusted.shapes import Misshapen
from tests.unit.record.spec_kit import SPEC

START = {"run": "r260101-000000aa-tiny-aa", "step": 4, "key": "checkpoints/train/000000004-1", "sha256": "x"}
WHOLE: dict[str, Any] = {
    **SPEC, "force": ["train"], "optimized": 1, "entry": {"supervisor": "runner.control.supervisor"},
    "plan": {"stages": [{"name": "train", "workers": 1}], "early": [False]}, "changes": {"lr": 0.1}, "source": None,
    "lineage": {"user": "ann", "packages": {"ray": "2"}, "git": None}, "of_tomorrow": [1],
    "start_from": {"run": START["run"], "stages": {"train": {**START, "all": True}}},
}  # fmt: skip


def test_it_is_kept_as_it_is() -> None:
    """Whatever else is in it, through the store and back."""
    spec = RunSpec.from_json(json.loads(json.dumps(WHOLE)))
    assert spec.to_json() == WHOLE
    assert RunSpec.from_json(spec.to_json()) == spec
    assert (spec.legs, spec.trainings, spec.job.stages[0].most_workers) == ((("train",),), ["train"], 1)
    assert spec.plan.planned() == {"train": {"name": "train", "workers": 1}}
    assert spec.beginning("train") == Beginning(**START, all=True)  # type: ignore[arg-type]
    assert spec.beginning("other") is None


def test_what_an_older_runner_did_not_write_is_as_it_was_then() -> None:
    """Only the job, its legs and its cluster must be there."""
    spec = RunSpec.from_json(SPEC)
    assert (spec.force, spec.optimized, spec.entry, spec.changes, spec.start_from) == ((), 0, {}, {}, None)
    assert (spec.plan.stages, spec.lineage.user) == ((), "")


def test_another_part_makes_another_spec() -> None:
    """The first stays; what is given may be anything that JSON can hold."""
    spec = RunSpec.from_json(WHOLE)
    other = spec.but(force=("a", "b"), legs=(("train", "after"),))
    assert (other.force, other.legs, other.raw["of_tomorrow"]) == (("a", "b"), (("train", "after"),), [1])
    assert spec.force == ("train",)
    with pytest.raises(Misshapen, match="cluster_name is 3"):
        spec.but(cluster_name=3)


@pytest.mark.parametrize("name", ["job", "cluster_name", "legs", "cluster"])
def test_a_part_that_must_be_there(name: str) -> None:
    """Without it there is no spec."""
    with pytest.raises(Misshapen, match=f"'{name}' is missing"):
        RunSpec.from_json({key: part for key, part in WHOLE.items() if key != name})


@pytest.mark.parametrize("name", [name for name in WHOLE if name not in ("of_tomorrow",)])
def test_a_part_of_another_shape_is_refused(name: str) -> None:
    """Each is named."""
    with pytest.raises(Misshapen, match=name):
        RunSpec.from_json({**WHOLE, name: 10**30})


def test_where_a_run_is_nobody_need_have_said() -> None:
    """Of runs elsewhere than on Kubernetes there is no mark."""
    assert ClusterMark.from_json({}) == ClusterMark()
    with pytest.raises(Misshapen, match="mark is 3"):
        ClusterMark.from_json({"mark": 3})
