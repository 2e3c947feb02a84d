from __future__ import annotations

import time

import pytest

from runner.views import units


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (336_776, "336,776"),
        (999_999, "999,999"),
        (1_200_000, "1.20 M"),
        (12_345_678, "12.3 M"),
        (999_960_000, "1.00 G"),
        (2.5e12, "2.50 T"),
    ],
)
def test_counts_are_exact_below_a_million(number: float, shown: str) -> None:
    """Above, three digits and a prefix."""
    assert units.count(number) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (34_500_000, "34.5 MB"), (999_999, "1.00 MB"), (5.5e10, "55.0 GB")],
)
def test_sizes_have_decimal_prefixes(number: float, shown: str) -> None:
    """Never four digits before a unit, never 1000 of one."""
    assert units.size(number) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0.0 s"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 m 00 s"),
        (80, "1 m 20 s"),
        (3599.7, "1 h 00 m"),
        (7380, "2 h 03 m"),
        (100_000, "1 d 03 h"),
    ],
)
def test_spans_have_two_parts_at_most(number: float, shown: str) -> None:
    """Rounding carries over into the larger part."""
    assert units.seconds(number) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0.97314, "0.9731"),
        (2.314159, "2.314"),
        (1234.5, "1234"),
        (123_456.7, "123,457"),
        (3e-5, "3.000e-05"),
        (7, "7"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (0.0, "0"),
        ("word", "word"),
    ],
)
def test_metrics_have_four_digits(number: object, shown: str) -> None:
    """An exponent only where zeros would hide the value."""
    assert units.value(number) == shown


def test_moments_are_short_when_near() -> None:
    """The hour today, the day this year, the year before that; machines get UTC."""
    now = time.mktime((2026, 11, 23, 18, 0, 0, 0, 0, -1))
    assert units.moment(now - 60, now) == "17:59:00"
    assert units.moment(now - 86_400 * 3, now) == "Nov 20 18:00"
    assert units.moment(now - 86_400 * 400, now) == "2025-10-19"
    assert units.iso(0) == "1970-01-01T00:00:00.000Z"
    assert units.iso(None) is None


def test_rates_keep_three_digits() -> None:
    """Slow ones too."""
    assert units.rate(0.1234, "steps") == "0.123 steps/s"
    assert units.rate(12_345.6, "samples") == "12,346 samples/s"
    assert units.speed(34_500_000) == "34.5 MB/s"
    assert (units.percent(0.034), units.percent(0.5), units.percent(0)) == ("3.4 %", "50 %", "0 %")
