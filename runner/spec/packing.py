"""Pack: documents of tokens put one after the other, cut into rows of one length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.spec.checks import Fields, checked


@checked
@dataclass(frozen=True)
class Pack:
    """Rows of a list column, the documents, as rows of exactly `length` tokens.

    The documents of a unit (a row group, a record batch...) follow each other in file order and are cut every `length`
    tokens; the last row of a unit is filled up. A batch has the columns as [B, length], and two more of int32, named
    after the first column: ``tokens.document`` numbers the documents inside a row from 0, -1 where it is filled up;
    ``tokens.position`` is a token's place in its document, which goes on over the end of a row (0 where filled up).

    Args:
        columns: the list column, or several whose lists are equally long in each row, such as tokens and labels.
        length: tokens of a row.
        fill: what fills up the last row of a unit; one value, or column -> value.
        separator: a token put behind each document, as its last; one value, or column -> value. None: nothing.

    Raises:
        SpecError: an argument is out of its range.
    """

    columns: str | Sequence[str]
    length: int
    fill: Any = 0
    separator: Any = None

    def __post_init__(self) -> None:
        fields = Fields("Pack")
        fields.integer("length", self.length, 1, (1 << 31) - 1)
        names = (self.columns,) if isinstance(self.columns, str) else self.columns
        if not isinstance(names, Sequence) or not names or not all(isinstance(name, str) and name for name in names):
            raise fields.fail("columns", self.columns, "the name of a list column, or several")
        if len(set(names)) < len(names):
            raise fields.fail("columns", self.columns, "each column once")
        object.__setattr__(self, "columns", tuple(names))
        object.__setattr__(self, "fill", _of_each(fields, "fill", self.fill, names))
        if self.separator is not None:
            object.__setattr__(self, "separator", _of_each(fields, "separator", self.separator, names))

    @property
    def document(self) -> str:
        """The column that numbers documents."""
        return f"{self.columns[0]}.document"

    @property
    def position(self) -> str:
        """The column of places in documents."""
        return f"{self.columns[0]}.position"

    def to_json(self) -> dict[str, Any]:
        """All of it, as values of JSON."""
        return {
            "columns": list(self.columns),
            "length": self.length,
            "fill": [self.fill[name] for name in self.columns],
            "separator": self.separator and [self.separator[name] for name in self.columns],
        }


def _of_each(fields: Fields, field: str, value: Any, names: Sequence[str]) -> dict[str, Any]:
    given = value if isinstance(value, Mapping) else dict.fromkeys(names, value)
    if set(given) != set(names):
        raise fields.fail(field, value, f"one value, or one for each of {', '.join(names)}")
    for one in given.values():
        if not isinstance(one, int | float):
            raise fields.fail(field, value, "numbers")
    return dict(given)
