"""What pyarrow's readers say in words alone, as kinds of trouble: nobody else looks at them."""

from __future__ import annotations

import enum


class Trouble(enum.Enum):
    """What a reader of pyarrow stumbled over."""

    BLOCK_TOO_SMALL = "block too small"  # a row is longer than the bytes that are decoded at once
    NO_OBJECT = "no object"  # a line holds JSON that is no object
    UNHELD = "unheld"  # a value of JSON has no place in its field's type
    TOO_NESTED = "too nested"  # a schema is deeper than it may be
    OTHER = "other"


#: pyarrow raises ArrowInvalid, or OSError, for all of these.
_WORDS = {
    "straddling object": Trouble.BLOCK_TOO_SMALL,
    "Empty CSV file or block": Trouble.BLOCK_TOO_SMALL,
    "Column() changed from object": Trouble.NO_OBJECT,
    "Failed to convert JSON to": Trouble.UNHELD,
    "too deeply nested": Trouble.TOO_NESTED,
}


def of_error(error: Exception) -> Trouble:
    """Why a reader gave up."""
    said = " ".join(str(error).split())
    return next((trouble for words, trouble in _WORDS.items() if words in said), Trouble.OTHER)
