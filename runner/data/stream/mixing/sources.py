"""The sources of a mixture: their columns made of one type, their lanes and blocks fewer than each alone would have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from runner.data.formats.columns import check_columns
from runner.data.lanes import layout
from runner.data.manifest import Manifest
from runner.data.values.types import widened
from runner.errors import DataError


def reconciled(manifests: Mapping[str, Manifest], columns: Sequence[str] | None) -> dict[str, Manifest]:
    """The same data with one type for each column that is wanted.

    Args:
        columns: those; None: all, which every source must have.

    Raises:
        DataError: a source has not a column, or two have types that hold different values.
    """
    (first, one), *others = manifests.items()
    if columns is None:
        columns = one.schema.names
        for name, other in others:
            odd = set(columns) ^ set(other.schema.names)
            if odd:
                has = first if next(iter(sorted(odd))) in columns else name
                raise DataError(
                    f"the column '{min(odd)}' is in '{has}' and not in '{name if has == first else first}'",
                    allowed="the same columns in all sources of a mixture",
                    todo="name those that all have with columns=",
                    where=other.base,
                )
    kinds: dict[str, pa.DataType] = {}
    for name, manifest in manifests.items():
        check_columns(columns, manifest.schema.names, where=manifest.base)
        for column in columns:
            kind = manifest.schema.field(column).type
            common = widened(kinds[column], kind) if column in kinds else kind
            if common is None:
                raise DataError(
                    f"the column '{column}' is {kind} in '{name}' and {kinds[column]} in the sources before it",
                    allowed="types that hold the same values",
                    todo="declare one type with Dataset(schema=...), or convert one of the sources in a Prep",
                    where=manifest.base,
                )
            kinds[column] = common
    return {name: replace(manifest, schema=_typed(manifest.schema, kinds)) for name, manifest in manifests.items()}


def among(manifests: Mapping[str, Manifest]) -> dict[str, Manifest]:
    """With lanes and blocks that together take what those of one dataset do."""
    found = {}
    for name, manifest in manifests.items():
        lanes, block_bytes = layout(manifest.units, len(manifests))
        found[name] = replace(manifest, lanes=lanes, block_bytes=block_bytes)
    return found


def _typed(schema: pa.Schema, kinds: Mapping[str, pa.DataType]) -> pa.Schema:
    fields = [one.with_type(kinds[one.name]) if one.name in kinds else one for one in schema]
    return pa.schema(fields).with_metadata(schema.metadata)
