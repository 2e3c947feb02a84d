"""What was declared about files, kept in the metadata of their schema: whoever has the schema can read them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import pyarrow as pa

from runner.data.values.recast import recast
from runner.data.values.types import plain_type
from runner.errors import DataError, SpecError, listed, suggest
from runner.spec import types
from runner.spec.checks import Fields
from runner.spec.reading import USUAL, Reading, checked

_KEY = b"runner.reading"
#: Metadata of a schema that leaves out columns of the files.
_SELECTED = {b"runner.selected": b"1"}


def is_selected(schema: pa.Schema) -> bool:
    """Whether the schema leaves out columns that the files may have."""
    return _SELECTED.items() <= (schema.metadata or {}).items()


def selected(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    """Some columns of a schema, in this order."""
    metadata = {**(schema.metadata or {}), **_SELECTED}
    return pa.schema([schema.field(name) for name in columns]).with_metadata(metadata)


def own_metadata(schema: pa.Schema) -> dict[bytes, bytes]:
    """What is kept here of how files are read, without what their writers have said."""
    return {name: value for name, value in (schema.metadata or {}).items() if name in (_KEY, *_SELECTED)}


def declared_keys(partitions: Mapping[str, str | None], reading: Reading, url: str) -> Mapping[str, str | None]:
    """Hive keys of a file that are columns. Raises DataError for one that is not declared and may not be there."""
    unknown = [name for name in partitions if name not in reading.schema]
    if not unknown or reading.unknown == "infer":
        return partitions
    if reading.unknown == "error":
        raise _undeclared(f"the hive partition '{unknown[0]}'", reading.schema, url)
    return {name: value for name, value in partitions.items() if name in reading.schema}


def with_reading(schema: pa.Schema, reading: Reading, chosen: bool = False) -> pa.Schema:
    """The schema of files that are read so.

    Args:
        chosen: whether somebody wants only some of their columns, so that others may be there.
    """
    shown = reading.to_json()
    metadata = {**(schema.metadata or {}), **({_KEY: json.dumps(shown, sort_keys=True).encode()} if shown else {})}
    if chosen or reading.unknown == "ignore":
        metadata.update(_SELECTED)
    return schema.with_metadata(metadata or None)


def reading_of(schema: pa.Schema) -> Reading:
    """How the files of a schema are read. Raises ValueError for metadata that runner has not written."""
    data = (schema.metadata or {}).get(_KEY)
    return USUAL if data is None else _reading(data)


@lru_cache(256)
def _reading(data: bytes) -> Reading:
    """What `with_reading` has kept; asked for each unit that is read."""
    try:
        said = json.loads(data)
        return checked(Fields("manifest"), said.get("schema"), said.get("csv"), said.get("unknown", "infer"))
    except (SpecError, AttributeError, RecursionError) as error:
        raise ValueError(f"how its files are read ({error})") from error


def kinds(reading: Reading) -> dict[str, pa.DataType]:
    """Column -> the plain type that was declared for it."""
    return {name: plain_type(kind) for name, kind in types.of_names(reading.schema).items()}


def declared(
    schemas: Sequence[tuple[str, pa.Schema]], format: str, reading: Reading, partitions: Iterable[str]
) -> list[tuple[str, pa.Schema]]:
    """The schemas of files, (URL, schema) each, with the declared types in the place of their own.

    A declared column that a file has not is null there.

    Raises:
        DataError: a column cannot be of its declared type, is in no file, or is not declared and may not be there.
    """
    wanted = kinds(reading)
    if not wanted:
        return list(schemas)
    partitions, there = set(partitions), {name for _, schema in schemas for name in schema.names}
    lost = [name for name in wanted if name not in there and name not in partitions]
    if lost and format != "jsonl" and not reading.table:
        raise DataError(
            f"no file has the declared column '{lost[0]}'",
            allowed=listed(sorted(there | partitions)),
            todo=suggest(lost[0], there | partitions) or "check schema=",
            where=schemas[0][0],
        )
    return [(url, _declared(url, schema, wanted, partitions, reading.unknown)) for url, schema in schemas]


def _declared(
    url: str, schema: pa.Schema, wanted: Mapping[str, pa.DataType], partitions: set[str], unknown: str
) -> pa.Schema:
    fields = []
    for field in schema:
        if field.name in wanted:
            _check_castable(url, field, wanted[field.name])
            field = field.with_type(wanted[field.name])
        elif unknown == "error":
            raise _undeclared(f"the column '{field.name}', {field.type},", wanted, url)
        elif unknown == "ignore":
            continue
        fields.append(field)
    absent = [name for name in wanted if name not in schema.names and name not in partitions]
    return pa.schema([*fields, *(pa.field(name, wanted[name]) for name in absent)])


def ordered(schema: pa.Schema, reading: Reading) -> pa.Schema:
    """The columns in the order in which they were declared, where others are not read; keys of folders come last."""
    if reading.unknown == "infer":
        return schema
    places = {name: place for place, name in enumerate(reading.schema)}
    return pa.schema(sorted(schema, key=lambda field: places.get(field.name, len(places))))


def _undeclared(what: str, known: Iterable[str], url: str) -> DataError:
    return DataError(
        f"{what} is not declared",
        allowed=listed(known),
        todo="declare it with schema=, or say unknown='ignore' or 'infer'",
        where=url,
    )


def _check_castable(url: str, field: pa.Field, kind: pa.DataType) -> None:
    have = plain_type(field.type)
    try:
        if pa.types.is_nested(have) != pa.types.is_nested(kind) and not pa.types.is_null(have):
            raise pa.ArrowInvalid(f"{have} cannot be {kind}")
        recast(pa.array([], have), kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"the column '{field.name}' is {field.type}, and declared as {kind}",
            allowed="a type that the values of the file can have",
            todo="declare another type, or convert the column in a Prep",
            where=url,
        ) from error
