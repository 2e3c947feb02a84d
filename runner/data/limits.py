"""What a file may cost: limits that honest data does not reach, so that a small hostile file cannot fill the memory.

Values that must be in memory together (a page, a compressed batch, the rows of a block) may have `at_once_bytes`, or
`AT_ONCE_RATIO` times their bytes in the file where that is more. All values of a unit together may have
`at_once_bytes`, or `ratio` times its bytes in the file: they pass through memory in pieces. Honest data is far from
both: text becomes 3 to 20 times as large, logs up to 100 times, gzip never more than 1032 times; only columns that
hold one value throughout, and sparse ones, are beyond, and such a unit is hardly ever larger than `at_once_bytes`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

from runner.errors import DataError
from runner.spec.checks import Fields, parse_bytes

#: Names of the settings in the environment, before the name of the limit.
_PREFIX = "RUNNER_DATA_"
#: What is in memory at once, in bytes of the file; `Limits.ratio` is for what passes through.
AT_ONCE_RATIO = 100
_KIB = 1 << 10


@dataclass(frozen=True)
class Limits:
    """The limits of this process. Each can be set in the environment: ``RUNNER_DATA_LINE_BYTES=256MiB``.

    Args:
        line_bytes: of a line of text, or a row of CSV.
        at_once_bytes: of values that must be in memory together, however few bytes they have in the file.
        ratio: bytes of a unit's values for each byte in the file.
        nesting: lists, structs and maps inside each other.
        fields: columns of a file, fields inside columns counted.
        footer_bytes: of what a Parquet or Arrow file says about itself.
        pixels: of a picture that is decoded.
        frame_pixels: of a frame of a video that is decoded; of a dozen and more of them something is held at a time.
    """

    line_bytes: int = 64 << 20
    at_once_bytes: int = 512 << 20
    ratio: int = 10_000
    nesting: int = 100
    fields: int = 100_000
    footer_bytes: int = 128 << 20
    pixels: int = 100_000_000
    frame_pixels: int = 40_000_000

    def at_once(self, length: int) -> int:
        """Bytes of values that may be in memory together, which have `length` bytes in the file."""
        return max(self.at_once_bytes, AT_ONCE_RATIO * length)

    def in_all(self, length: int) -> int:
        """Bytes of values that may come out of `length` bytes in the file."""
        return max(self.at_once_bytes, self.ratio * length)


def limits() -> Limits:
    """The limits that hold now. Raises SpecError for a setting that is no size."""
    given = environment()
    if not given:
        return _DEFAULT
    where = Fields("environment")
    return Limits(**{name: parse_bytes(where, _variable(name), text) for name, text in given.items()})


def environment() -> dict[str, str]:
    """The limits that are set in the environment of this process: name -> text."""
    given = ((name, os.environb.get(variable)) for name, variable in _VARIABLES)
    return {name: os.fsdecode(text) for name, text in given if text}


def variables() -> dict[str, str]:
    """The settings as they must be in another process's environment to hold there too."""
    return {_variable(name): text for name, text in environment().items()}


def beyond(limit: str, found: str, where: str = "") -> DataError:
    """The error for data that passes a limit.

    Args:
        limit: the name of the limit.
        found: what was found.
        where: in which file; `explained` fills it in where it is left out.
    """
    value = getattr(limits(), limit)
    shown = shown_bytes(value) if limit.endswith("_bytes") else f"{value:,}"
    return DataError(
        found,
        allowed=_ALLOWED[limit].format(shown),
        todo=f"if you trust the file, set {_variable(limit)} higher in the environment of whoever reads it (your shell "
        "and the machines of the run)",
        where=where,
    )


def shown_bytes(count: int) -> str:
    """Bytes as '512 MiB', rounded."""
    value, unit = float(count), 0
    while value >= _KIB and unit < len(_UNITS) - 1:
        value, unit = value / _KIB, unit + 1
    return f"{value:.4g} {_UNITS[unit]}"


def _variable(name: str) -> str:
    return _PREFIX + name.upper()


_DEFAULT = Limits()
#: In bytes, as which they are looked up in a tenth of the time: it is done several times for each file.
_VARIABLES = tuple((field.name, _variable(field.name).encode()) for field in fields(Limits))
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_ALLOWED: Mapping[str, str] = {
    "line_bytes": "lines (rows of CSV) of up to {}",
    "at_once_bytes": f"{{}} of values that must be in memory at once, or {AT_ONCE_RATIO} times their bytes in the file",
    "ratio": "{} bytes of values for each byte in the file",
    "nesting": "lists, structs and maps nested {} deep",
    "fields": "{} columns, fields inside columns counted",
    "footer_bytes": "{} of what a file says about itself",
    "pixels": "pictures of up to {} pixels",
    "frame_pixels": "videos of up to {} pixels a frame",
}
