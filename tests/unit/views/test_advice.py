"""What a survey means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runner.data.survey.columns import Checks
from runner.data.survey.rates import Encoded, Rates
from runner.data.survey.survey import Survey
from runner.data.survey.units import Spread, UnitFacts
from runner.views.advice import advice, factor, limits, new_name, size_factor, stream_factor

MB = 10**6
RATES = Rates(
    sample=4, rows=1000, stored=20 * MB, decoded=40 * MB, remote=False, fetch=2000 * MB, decode=400 * MB,
    stream=300 * MB, stream_cpu=1 / (300 * MB), threads=2, as_="numpy",
)  # fmt: skip
#: As good as it gets: decoded as fast anew, each page with a checksum.
FINE = Survey(
    base="lake", format="parquet", files=4, bytes=80 * MB, rows=1000,
    units=UnitFacts(20, Spread(50, 50, 50), Spread(*[8 * MB] * 3), Spread(*[20 * MB] * 3), 8, 4 * MB),
    columns=(), footers=4, checks=Checks(3, 10, 10, MB, 4, 0), rates=RATES,
    encoded=Encoded(decoded=16 * MB, stored=8 * MB, decode=400 * MB),
)  # fmt: skip


def seen(**changes: Any) -> Survey:
    """FINE with changes, those of its parts by ``part__field``."""
    survey = FINE
    for name, value in changes.items():
        part, _, inner = name.partition("__")
        survey = replace(survey, **{part: replace(getattr(survey, part), **{inner: value}) if inner else value})
    return survey


def test_fine_data_has_nothing_to_change() -> None:
    """Data that is decoded as fast as it can be is left alone, whatever limits its stream."""
    assert [each.words for each in advice(FINE, "lake")] == ["nothing to change"]
    assert [each.what for each in limits(FINE)] == ["decode"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"rates__stream_cpu": 1 / (100 * MB)}, ["copy"]),
        ({"rates__remote": True, "rates__fetch": 100 * MB}, ["network"]),
        ({"rates__remote": True, "rates__fetch": 300 * MB}, ["decode"]),
        ({"rates__remote": True, "rates__decode": None}, ["network"]),
        ({"files": 1000, "units__files": Spread(1, 1000, 2000)}, ["decode", "small files"]),
        ({"units__count": 1000, "units__bytes": Spread(1, 1000, 2000)}, ["decode", "small units"]),
        ({"units__bytes": Spread(1, 1000, 500 * MB)}, ["decode", "large units"]),
        ({"checks__largest_page": 20 * MB}, ["decode", "large pages"]),
        ({"rates__decoded": 1000}, []),
        ({"rates": None}, []),
    ],
)
def test_what_limits_is_named(changes: dict[str, Any], what: list[str]) -> None:
    """The rate's own limit comes first, then what its files, units and pages are like; too little data has none."""
    assert [each.what for each in limits(seen(**changes))] == what


def test_a_rewrite_is_advised_where_the_stream_gains() -> None:
    """The factors are those of decoding, of the stream whose other work stays, and of the bytes."""
    faster = seen(encoded__decode=1600 * MB)
    assert factor(faster) == 4
    assert size_factor(faster) == 1
    assert stream_factor(faster) == pytest.approx(1 / (0.25 + 0.75 / 4))
    (found,) = advice(faster, "s3://lake/raw/*.parquet")
    assert found.command == ("data", "rewrite", "s3://lake/raw/*.parquet", "raw-rewritten")
    assert "4.0 times" in found.words


@pytest.mark.parametrize(
    "changes",
    [
        {"rates__stream_cpu": 1 / (20 * MB)},  # hardly any of the work is decoding
        {"rates__remote": True, "rates__fetch": 10 * MB, "encoded__stored": 16 * MB},  # more bytes by a slow network
        {"files": 1000, "units__files": Spread(1, 1000, 2000)},  # a rewrite keeps each file
        {"encoded__decode": 500 * MB},  # as far as two trials of the same differ
        {"rates__decoded": 1000},  # too little to measure
    ],
)
def test_no_rewrite_is_advised_where_it_does_not_help(changes: dict[str, Any]) -> None:
    """A re-encode that decodes faster is not advised for its own sake."""
    changes = {"encoded__decode": 1600 * MB, **changes}
    assert not any(each.command for each in advice(seen(**changes), "lake"))


def test_missing_checksums_are_a_reason() -> None:
    """Pages without checksums are told, with the command."""
    (found,) = advice(seen(checks__checked=0), "tokens@9b64")
    assert "checksum" in found.words
    assert found.command == ("data", "rewrite", "tokens@9b64", "tokens-rewritten")


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("tokens", "tokens-rewritten"),
        ("dataset:tokens@12", "tokens-rewritten"),
        ("s3://lake/a b.parquet", "a-b-rewritten"),
        ("/", "data-rewritten"),
        ("x" * 80, "x" * 50 + "-rewritten"),
    ],
)
def test_a_new_name_is_one_that_a_dataset_can_have(name: str, new: str) -> None:
    """Whatever data is called, the command that is advised can be typed as it is."""
    assert new_name(name) == new


def test_data_without_rows_says_so() -> None:
    """Nothing is measured of no rows."""
    assert [each.words for each in advice(seen(rows=0, rates=None, encoded=None), "x")] == ["there are no rows"]
