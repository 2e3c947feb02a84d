"""Text that somebody else wrote, as it may be shown: nothing of it moves a cursor, or turns what is read."""

from __future__ import annotations

import re

#: What a terminal obeys or hides, as the inside of a set of a regular expression: C0 and DEL without tab and newline,
#: C1, marks of direction, separators of lines and paragraphs, and halves of characters, which no file can hold.
CONTROLS = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
    r"\ud800-\udfff"
)
_CONTROL = re.compile(f"[{CONTROLS}]")


def visible(text: str) -> str:
    """The same with each control character as Python writes it, such as ``\\x1b``; tabs and newlines stay."""
    return _CONTROL.sub(_escaped, text)


def one_line(text: str) -> str:
    """As `visible`, on one line: whatever separates words is one space."""
    return visible(" ".join(text.split()))


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]
