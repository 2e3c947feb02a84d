from __future__ import annotations

from typing import Any

import pytest

from runner import Job, Prep, Train
from runner.errors import PlanError
from runner.plan.graph import ordered


def function(batch: Any, config: Any) -> Any:
    return batch


def prep(name: str, source: str, sink: str) -> Prep:
    return Prep(name, fn=function, source=source, sink=sink)


def names(*stages: Prep | Train, exists: tuple[str, ...] = ("raw",)) -> list[str]:
    return [stage.name for stage in ordered(Job("j", stages=stages), exists)]


def test_stages_follow_their_data() -> None:
    """A stage comes after those that write what it reads, whatever the order of the file."""
    train = Train("train", fn=function, data={"train": "b"})
    assert names(train, prep("two", "a", "b"), prep("one", "raw", "a")) == ["one", "two", "train"]


def test_independent_stages_keep_the_order_of_the_file() -> None:
    """Without a dependency the order is the user's."""
    assert names(prep("x", "raw", "a"), prep("y", "raw", "b")) == ["x", "y"]


def test_a_cycle_is_named() -> None:
    """Stages that need each other's data are refused, with the path."""
    with pytest.raises(PlanError) as caught:
        names(prep("one", "b", "a"), prep("two", "a", "b"))
    assert "one" in str(caught.value)
    assert "two" in str(caught.value)
    assert "one way" in str(caught.value)


def test_a_stage_that_reads_its_own_output_is_a_cycle() -> None:
    """The shortest cycle is one stage."""
    with pytest.raises(PlanError, match="one way"):
        names(prep("one", "a", "a"))


def test_a_missing_input_names_near_misses() -> None:
    """An unknown dataset is refused with what exists and the closest name."""
    with pytest.raises(PlanError) as caught:
        names(prep("one", "rwa", "a"))
    assert "did you mean 'raw'" in str(caught.value)


def test_two_writers_of_one_dataset_are_refused() -> None:
    """Both stages are named."""
    with pytest.raises(PlanError, match="'one' and 'two' both write the dataset 'a'"):
        names(prep("one", "raw", "a"), prep("two", "raw", "a"))


def test_what_a_stage_writes_itself_is_not_offered_as_its_input() -> None:
    """Of an unknown dataset the error names what could be read, and says so where there is nothing."""
    with pytest.raises(PlanError) as caught:
        names(prep("a", "raw", "mid"), exists=())
    assert "'mid'" not in caught.value.allowed
    assert caught.value.allowed.endswith("there is none so far")
    with pytest.raises(PlanError, match="published data: 'other'"):
        names(prep("a", "raw", "mid"), exists=("other",))
