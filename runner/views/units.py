"""Numbers as people read them: 1.2 M rows, 34.5 MB/s, 1 m 20 s."""

from __future__ import annotations

import datetime
import math
import re
import time

from runner.errors import InputError

_LARGE = ((1e12, "T"), (1e9, "G"), (1e6, "M"))
_BYTES = ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def count(number: float) -> str:
    """A number of things: exact below a million, then with three digits and a prefix."""
    rounded = round(number)
    if abs(rounded) < 1_000_000:
        return f"{rounded:,}"
    return _scaled(number, _LARGE)


def things(number: float, one: str, many: str = "") -> str:
    """``1 row``, ``1,812 rows``."""
    return f"{count(number)} {one if round(number) == 1 else many or one + 's'}"


def size(number: float) -> str:
    """Bytes with decimal prefixes."""
    return f"{number:.0f} B" if abs(number) < 1000 else _scaled(number, _BYTES)


def _scaled(number: float, units: tuple[tuple[float, str], ...]) -> str:
    for factor, unit in units:
        if abs(number) >= factor * 0.9995:  # 999,950 kB reads as 1.00 MB
            value = number / factor
            digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
            return f"{value:.{digits}f} {unit}"
    return f"{number:.0f}"


def rate(number: float, unit: str) -> str:
    """Things per second; three digits where there are few."""
    shown = count(number) if number >= 100 else f"{number:.3g}"
    return f"{shown} {unit}/s"


def speed(number: float) -> str:
    """Bytes per second."""
    return f"{size(number)}/s"


def seconds(number: float, whole: bool = False) -> str:
    """A time span: 4.2 s (or `whole`: 4 s), 12 s, 1 m 20 s, 2 h 03 m, 3 d 04 h."""
    if number < 9.95 and not whole:
        return f"{max(number, 0.0):.1f} s"
    total = round(number)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} m {total % 60:02d} s"
    if total < 86400:
        return f"{total // 3600} h {total % 3600 // 60:02d} m"
    return f"{total // 86400} d {total % 86400 // 3600:02d} h"


def moment(at: float, now: float | None = None) -> str:
    """A point in time, local: the hour if it was today, the date before that."""
    now = time.time() if now is None else now
    then, today = time.localtime(at), time.localtime(now)
    if then[:3] == today[:3]:
        return time.strftime("%H:%M:%S", then)
    return time.strftime("%b %d %H:%M" if then.tm_year == today.tm_year else "%Y-%m-%d", then)


def iso(at: float | None) -> str | None:
    """A point in time for machines: UTC, ISO 8601, to the millisecond, such as ``2026-11-23T19:35:21.042Z``."""
    if at is None:
        return None
    whole, thousandths = divmod(round(at * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{thousandths:03d}Z"


_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def since(text: str, now: float) -> float:
    """A point in time that a person gives: a span before now (``90s``, ``10m``, ``2h``, ``3d``, ``1w``), or a date with
    or without a time in ISO 8601, local where it names no zone. Seconds since 1970.

    Raises:
        InputError: it is neither.
    """
    span = _SPAN.fullmatch(text)
    if span is not None:
        return now - float(span[1]) * _SECONDS[span[2]]
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise InputError(
            f"--since {text}",
            allowed="a span such as 90s, 10m, 2h, 3d, or a time such as 2026-11-23T19:35",
            todo="give one of them",
        ) from None


def value(number: object) -> str:
    """A metric: four digits, and no exponent where none is needed."""
    if isinstance(number, bool) or not isinstance(number, int | float):
        return str(number)
    if isinstance(number, int):
        return f"{number:,}"
    if not math.isfinite(number):
        return str(number)
    if number and (abs(number) < 1e-4 or abs(number) >= 1e7):
        return f"{number:.3e}"
    return f"{number:,.0f}" if abs(number) >= 10_000 else f"{number:.4g}"


def percent(share: float) -> str:
    """A share from 0 to 1."""
    return f"{share * 100:.1f} %" if 0 < share < 0.0995 else f"{share * 100:.0f} %"
