"""Units of which a filter keeps all rows or none, known from folders' names and Parquet's statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from runner.data.formats.explain import explained
from runner.data.formats.parquet_footer import Footer
from runner.data.manifest import Manifest
from runner.data.shards import Shard

#: (shard, position in it) -> whether all rows are kept; none are where it is False.
Decided = dict[tuple[int, int], bool]
_THREADS = 16


def by_folder(source: Manifest, columns: Sequence[str], mask: Callable[[pa.RecordBatch], NDArray[np.bool_]]) -> Decided:
    """Units of files whose hive partitions have all columns that the filter looks at.

    Args:
        mask: which rows of a batch of `columns` are kept.
    """
    found: Decided = {}
    known: dict[tuple[str | None, ...], bool] = {}
    schema = pa.schema([source.schema.field(name) for name in columns])
    for number, one in enumerate(source.shards):
        if not columns or not set(columns) <= set(one.partitions):
            continue
        values = tuple(one.partitions[name] for name in columns)
        if values not in known:
            arrays = [_repeated(value, kind) for value, kind in zip(values, schema.types, strict=True)]
            known[values] = bool(mask(pa.RecordBatch.from_arrays(arrays, schema=schema))[0])
        found.update({(number, place): known[values] for place in range(len(one.units))})
    return found


def _repeated(value: str | None, kind: pa.DataType) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()).cast(kind), 1)


def by_footer(source: Manifest, keep: pc.Expression, columns: Sequence[str]) -> Decided:
    """Row groups that their statistics decide, of plain Parquet files."""
    files = [number for number, one in enumerate(source.shards) if one.format == "parquet" and one.units]
    if type(source) is not Manifest or not files or not columns:
        return {}

    def look(number: int) -> Decided:
        one = source.shards[number]
        with explained(source.url(one)):
            decided = _of_file(source, one, keep, columns)
        return {(number, place): kept for place, kept in decided.items()}

    found: Decided = {}
    with ThreadPoolExecutor(min(_THREADS, len(files)), "runner-count") as pool:
        for each in pool.map(look, files):
            found.update(each)
    return found


def _of_file(source: Manifest, one: Shard, keep: pc.Expression, columns: Sequence[str]) -> dict[int, bool]:
    found = source.footer(one)
    own = [name for name in columns if name not in one.partitions]
    if not own or not all(_is_told(found.schema, source.schema.field(name)) for name in own):
        return {}
    leaves = [leaf for name in own for leaf in found.leaves_of([name])]
    groups = range(found.metadata.num_row_groups)
    if not all(_is_consistent(found, group, leaf) for group in groups for leaf in leaves):
        return {}
    possible = _possible(source, one, found, keep)
    otherwise = _possible(source, one, found, ~keep)
    has_null = any(one.partitions[name] is None for name in columns if name in one.partitions)
    decided = {}
    for place, unit in enumerate(one.units):
        if unit.index not in possible:
            decided[place] = False
        elif unit.index not in otherwise and not has_null and _has_no_null(found, unit.index, leaves):
            decided[place] = True
    return decided


def _is_told(schema: pa.Schema, field: pa.Field) -> bool:
    """Whether statistics of a column say something about its values here: of fractions they pass over NaN."""
    index = schema.get_field_index(field.name)
    if index < 0 or schema.field(index).type != field.type:
        return False
    kind = field.type
    whole = pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_string(kind)
    return bool(whole or pa.types.is_date(kind) or pa.types.is_timestamp(kind))


def _possible(source: Manifest, one: Shard, found: Footer, keep: pc.Expression) -> set[int]:
    """The row groups of which a row may be kept, as pyarrow's datasets know it."""
    from pyarrow import dataset

    data = pa.BufferOutputStream()
    found.metadata.write_metadata_file(data)
    known: Any = None
    for name, value in one.partitions.items():
        if name in source.schema.names:
            here = pc.field(name)
            said = here.is_null() if value is None else here == _scalar(value, source.schema.field(name).type)
            known = said if known is None else known & said
    file = dataset.ParquetFileFormat().make_fragment(pa.BufferReader(data.getvalue()), partition_expression=known)
    schema = source.schema.remove_metadata()
    return {group.id for part in file.split_by_row_group(keep, schema) for group in part.row_groups}


def _scalar(value: str, kind: pa.DataType) -> pa.Scalar:
    return pa.scalar(value, pa.string()).cast(kind)


def _has_no_null(found: Footer, group: int, leaves: Sequence[int]) -> bool:
    return all(nulls(found, group, leaf) == 0 for leaf in leaves)


def nulls(found: Footer, group: int, leaf: int) -> int | None:
    """The nulls of a column chunk, empty and null lists counted, as its statistics tell; None where they do not."""
    if not _is_consistent(found, group, leaf):
        return None
    chunk = found.metadata.row_group(group).column(leaf)
    told = chunk.statistics if chunk.is_stats_set else None
    return told.null_count if told is not None and told.has_null_count else None


def _is_consistent(found: Footer, group: int, leaf: int) -> bool:
    """Whether a chunk is of its column's type: Python that asks for the statistics of another ends."""
    chunk = found.metadata.row_group(group).column(leaf)
    return bool(chunk.physical_type == found.leaves[leaf].physical_type)
