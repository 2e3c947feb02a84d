"""How files are read where they do not say it themselves: declared types, CSV's dialect, new fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.errors import listed, suggest
from runner.spec import types
from runner.spec.checks import Fields
from runner.spec.formats import MANIFEST, TABLES

UNKNOWN = ("infer", "ignore", "error")
#: The parts of CSV's dialect, and what each may be.
CSV = {
    "delimiter": "one ASCII character",
    "quote": "one ASCII character, or None where nothing is quoted",
    "escape": "one ASCII character, or None",
    "decimal": "'.' or ','",
    "header": "True or False: whether the first line names the columns",
    "names": "the names of all columns, in the order of the file",
    "skip": "lines before the header, a whole number from 0 up",
    "nulls": "the spellings of a missing value, in text too",
}


@dataclass(frozen=True)
class Reading:
    """What is declared about files.

    Args:
        schema: column -> the name of its type.
        csv: parts of the dialect (see `CSV`); the others are the usual ones.
        unknown: what becomes of columns that `schema` has not: 'infer' reads them as they are, 'ignore' leaves them
            out, 'error' refuses them.
        table: whether `schema` is that of a table, of which a column may be in no file yet.
    """

    schema: Mapping[str, str] = field(default_factory=dict)
    csv: Mapping[str, Any] = field(default_factory=dict)
    unknown: str = "infer"
    table: bool = False

    def to_json(self) -> dict[str, Any]:
        """What differs from the usual."""
        shown = {"schema": dict(self.schema), "csv": dict(self.csv), "unknown": self.unknown}
        return {name: part for name, part in shown.items() if part and part != "infer"}


#: Nothing is declared.
USUAL = Reading()


def checked(fields: Fields, schema: Any, csv: Any, unknown: Any) -> Reading:
    """What somebody has declared, in its usual form. Raises SpecError for what cannot be."""
    fields.one_of("unknown", unknown, UNKNOWN)
    kinds = {} if schema is None else types.declared(fields, "schema", schema)
    if unknown != "infer" and not kinds:
        raise fields.fail("unknown", unknown, "'infer', without schema=", "declare the columns with schema=")
    return Reading(kinds, {} if csv is None else _dialect(fields, csv), unknown)


def _dialect(fields: Fields, csv: Any) -> dict[str, Any]:
    if not isinstance(csv, Mapping):
        raise fields.fail("csv", csv, "a mapping such as {'delimiter': ';', 'header': False}")
    for name, value in csv.items():
        if name not in CSV:
            raise fields.fail(f"csv[{name!r}]", value, listed(CSV), suggest(str(name), CSV))
        if not _fits(name, value):
            raise fields.fail(f"csv[{name!r}]", value, CSV[name])
    found = {name: tuple(value) if name in ("names", "nulls") else value for name, value in csv.items()}
    names = found.get("names", ())
    if len(set(names)) < len(names):
        raise fields.fail("csv['names']", names, "each name once")
    if names and "header" not in found:  # to pandas the first line is a row then, and to others a header
        allowed = "names together with header: False, where the first line is a row, or True, where they replace it"
        raise fields.fail("csv", csv, allowed, "say 'header': False or 'header': True")
    marks = [found.get(name) for name in ("delimiter", "quote", "escape", "decimal") if found.get(name) is not None]
    if len(set(marks)) < len(marks):
        raise fields.fail("csv", csv, "different characters for delimiter, quote, escape and decimal")
    return found


def _fits(name: str, value: Any) -> bool:
    if name in ("delimiter", "quote", "escape"):
        one = isinstance(value, str) and len(value) == 1 and value.isascii() and value not in "\r\n\0"
        return one or (value is None and name != "delimiter")
    if name == "decimal":
        return value in (".", ",")
    if name == "header":
        return isinstance(value, bool)
    if name == "skip":
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    several = isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    return several and (name == "nulls" or (len(value) > 0 and all(value)))


def check_place(
    fields: Fields, format: str | None, urls: list[str], version: object, snapshot: object, is_declared: bool
) -> None:
    """Raise SpecError for a version or a snapshot of what has none, for several tables at once, and for one of which
    something is declared."""
    if version is not None:
        fields.integer("version", version, 0)
        if format != "delta":
            raise fields.fail("version", version, "with format='delta'", "say format='delta'")
    if snapshot is not None:
        fields.integer("snapshot", snapshot, 0)
        if format != "iceberg":
            raise fields.fail("snapshot", snapshot, "with format='iceberg'", "say format='iceberg'")
    if format in (*TABLES, MANIFEST) and len(urls) != 1:
        raise fields.fail("url", urls, f"one URL, with format={format!r}", "make a dataset of each")
    if format in (*TABLES, MANIFEST) and is_declared:
        raise fields.fail("schema", "...", f"none with format={format!r}, which says it itself", "leave it out")
