"""Values as JSON that holds all of them."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
from typing import Any

import pyarrow as pa
import pytest

from runner.data.values import json_text


def loads(text: str) -> Any:
    return json.loads(text, parse_float=decimal.Decimal)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([2**63, 0, None], pa.uint64()), [2**63, 0, None]),
        (pa.array([-(2**63), 2**53 + 1]), [-(2**63), 2**53 + 1]),
        (pa.array([decimal.Decimal("12.340"), None], pa.decimal128(38, 3)), [decimal.Decimal("12.340"), None]),
        (pa.array([float("nan"), float("inf"), float("-inf")]), ["NaN", "Infinity", "-Infinity"]),
        (pa.array([b"\xff\x00", b"", None]), [base64.b64encode(b"\xff\x00").decode(), "", None]),
        (
            pa.array([1, -1, None], pa.timestamp("ns")),
            ["1970-01-01T00:00:00.000000001", "1969-12-31T23:59:59.999999999", None],
        ),
        (pa.array([0], pa.timestamp("s", "Europe/Berlin")), ["1970-01-01T00:00:00Z"]),
        (pa.array([-(2**63)], pa.timestamp("s")), ["-292277022657-01-27T08:29:52"]),
        (pa.array([86_399_999_999_999], pa.time64("ns")), ["23:59:59.999999999"]),
        (pa.array([-1500, 0], pa.duration("ms")), ["-PT1.500S", "PT0.000S"]),
        (pa.array([1], pa.date32()), ["1970-01-02"]),
        (pa.array([(1, -2, 3)], pa.month_day_nano_interval()), [{"months": 1, "days": -2, "nanoseconds": 3}]),
        (pa.array([[1, None], None, []], pa.list_(pa.int8())), [[1, None], None, []]),
        (pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int8(), 2)), [[1, 2], None, [3, 4]]),
        (pa.array([[None], None], pa.list_(pa.null())), [[None], None]),
        (pa.array([{"a": {"b": True}}, None]), [{"a": {"b": True}}, None]),
        (pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int32())), [[["k", 1]], None, []]),
        (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_every_value_is_whole(array: pa.Array, expected: list[Any]) -> None:
    """Each type keeps all digits, bytes and nulls, also where the array is a part of a larger one."""
    assert [loads(text) for text in json_text.texts(array)] == expected
    assert [loads(text) for text in json_text.texts(array.slice(1))] == expected[1:]


def test_dates_are_those_of_the_calendar() -> None:
    """Of every year that Python knows, a date is as Python writes it."""
    for date in (datetime.date(1, 1, 1), datetime.date(1900, 2, 28), datetime.date(2000, 2, 29), datetime.date.max):
        days = (date - datetime.date(1970, 1, 1)).days
        for day in range(days, min(days + 400, (datetime.date.max - datetime.date(1970, 1, 1)).days + 1)):
            shown = loads(json_text.texts(pa.array([day], pa.date32()))[0])
            assert shown == (datetime.date(1970, 1, 1) + datetime.timedelta(day)).isoformat()


def test_a_row_is_one_line_that_no_terminal_obeys() -> None:
    """Names and text are escaped, so that a row is one line of printable ASCII."""
    (line,) = json_text.rows(pa.record_batch({"a\x1b": ["\x7f\n\u202e\x9bé"]}))
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == {"a\x1b": "\x7f\n\u202e\x9bé"}
