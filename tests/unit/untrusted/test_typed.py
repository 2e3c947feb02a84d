"""JSON as dataclasses: what is written is read back, and what does not fit is refused with its place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from runner.untrusted.shapes import Misshapen, whole
from runner.untrusted.typed import Excerpt, Key, Record, sparse


@dataclass(frozen=True)
class Part(Record):
    word: Annotated[str, Key("class")]
    size: int = 0


@dataclass(frozen=True)
class Whole(Record):
    name: str
    level: Annotated[int, whole(0, 9)]
    parts: tuple[Part, ...] = ()
    by_name: Mapping[str, Part] | None = None
    kind: Literal["a", "b"] = "a"
    anything: Any = None
    share: float | None = sparse(None)


@dataclass(frozen=True)
class Some(Excerpt):
    name: str
    size: int = 0


def test_what_is_written_is_read_back() -> None:
    """Parts, lists and objects of parts come back as what they were, through JSON."""
    made = Whole("n", 3, (Part("x"), Part("y", 2)), {"k": Part("z")}, "b", {"deep": [1]}, 0.5)
    assert Whole.from_json(json.loads(json.dumps(made.to_json()))) == made
    assert made.to_json()["parts"] == [{"class": "x", "size": 0}, {"class": "y", "size": 2}]


def test_a_field_may_be_left_out() -> None:
    """One with a default need not be there, and a sparse one is written only where it differs."""
    made = Whole.from_json({"name": "n", "level": 0, "of_the_future": 1})
    assert made == Whole("n", 0)
    assert "share" not in made.to_json()
    assert made.to_json()["kind"] == "a"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "the whole is list, not an object"),
        ({"name": "n"}, "'level' is missing"),
        ({"name": 1, "level": 0}, "name is 1, not text"),
        ({"name": "n", "level": 10}, "level is 10, not a whole number from 0 to 9"),
        ({"name": "n", "level": True}, "level is True"),
        ({"name": "n", "level": 1, "parts": [{"class": "x", "size": -1}]}, r"parts\[0\].size is -1"),
        ({"name": "n", "level": 1, "parts": [{}]}, r"'parts\[0\].class' is missing"),
        ({"name": "n", "level": 1, "by_name": {"k": 1}}, "by_name.k is 1, not an object"),
        ({"name": "n", "level": 1, "kind": "c"}, "kind is 'c', not one of a, b"),
        ({"name": "n", "level": 1, "share": float("nan")}, "share is nan, not a number"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_place(value: Any, words: str) -> None:
    """The error says where, what was found and what is wanted."""
    with pytest.raises(Misshapen, match=words):
        Whole.from_json(value)


def test_an_excerpt_is_kept_whole() -> None:
    """Fields that are not read here go where it goes."""
    raw = {"name": "n", "more": [1, 2]}
    some = Some.from_json(raw)
    assert (some.name, some.size, some.to_json()) == ("n", 0, raw)
    with pytest.raises(Misshapen):
        Some.from_json({"more": 1})
