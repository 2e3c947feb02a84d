"""The dialect of a CSV file: what separates, quotes and names its values, in pyarrow's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from runner.data.files.compression import file_name
from runner.data.values.arrays import texts

_SWAPPED = "\x00"


@dataclass(frozen=True)
class Dialect:
    """How the text of a file is taken apart; the fields are those of `runner.spec.reading.CSV`."""

    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    decimal: str = "."
    header: bool = True
    names: tuple[str, ...] = ()
    skip: int = 0
    nulls: tuple[str, ...] | None = None

    @classmethod
    def of(cls, declared: Mapping[str, Any], path: str) -> Dialect:
        """As it was declared; what was not is the usual, with tabs in '.tsv'."""
        usual = {"delimiter": "\t"} if ".tsv" in file_name(path).lower() else {}
        return cls(**{**usual, **declared})

    @property
    def lines_before_rows(self) -> int:
        """Lines at the start of a file that are no rows."""
        return self.skip + self.header

    def parse(self) -> pacsv.ParseOptions:
        """How values are told apart."""
        return pacsv.ParseOptions(
            delimiter=self.delimiter,
            quote_char=self.quote or False,
            escape_char=self.escape or False,
            newlines_in_values=self.quote is not None or self.escape is not None,
        )

    def start(self, size: int) -> pacsv.ReadOptions:
        """How the names in a file are read."""
        return pacsv.ReadOptions(
            use_threads=False, block_size=size, skip_rows=self.skip, autogenerate_column_names=not self.header
        )

    def rows(self, names: Sequence[str], first: bool, size: int) -> pacsv.ReadOptions:
        """How the rows of a unit are read.

        Args:
            first: whether the unit is the start of the file.
        """
        if first and self.header and not self.names:
            return self.start(size)
        return pacsv.ReadOptions(
            use_threads=False,
            block_size=size,
            column_names=list(names),
            skip_rows=self.skip if first else 0,
            skip_rows_after_names=int(first and self.header),
        )

    def convert(self, types: Mapping[str, pa.DataType], columns: Sequence[str] | None = None) -> pacsv.ConvertOptions:
        """How values become those of their types.

        Args:
            columns: those wanted; None: all.
        """
        return pacsv.ConvertOptions(
            column_types=dict(types),
            include_columns=None if columns is None else list(columns),
            decimal_point=self.decimal,
            null_values=None if self.nulls is None else list(self.nulls),
            strings_can_be_null=self.nulls is not None,
        )

    @property
    def nothing(self) -> pa.Array:
        """The spellings of a missing value."""
        return texts(pacsv.ConvertOptions().null_values if self.nulls is None else list(self.nulls))

    def with_points(self, text: pa.Array) -> pa.Array:
        """Values of text, with the points of fractions as everywhere."""
        if self.decimal == ".":
            return text
        swapped = text
        for old, new in ((".", _SWAPPED), (",", "."), (_SWAPPED, ",")):
            swapped = pc.replace_substring(swapped, old, new)
        return swapped
