"""Text that somebody else wrote, as it may be shown: nothing of it moves a cursor, or turns what is read."""

from __future__ import annotations

import functools
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


#: A colour, or what is bold, dim, italic, underlined or crossed out; not what blinks or is hidden.
_COLOUR = (
    r"\x1b\[(?:(?:0?[0-4]|7|9|2[1-9]|[349][0-7]|[34]9|10[0-7]|[34]8;5;[0-9]{1,3}"
    r"|[34]8;2;[0-9]{1,3};[0-9]{1,3};[0-9]{1,3})(?:;(?!m)|(?=m)))*m"
)
#: Whole sequences by which programs draw (cursor, erasing, titles, links, character sets), and bells, backspaces and
#: carriage returns.
_DRAWN = (
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[PX^_][^\x1b]*\x1b\\|\x1b[()*+][0-9A-Za-z]|\x1b[78=>cDEHMNOZ]|[\x07\x08\r]"
)


@functools.cache
def _in_logs() -> re.Pattern[str]:
    """Compiled when a log is first shown, since few commands show one."""
    return re.compile(rf"({_COLOUR})|{_DRAWN}|([{CONTROLS}])")


_RESET = "\x1b[0m"
_RESETS = ("\x1b[m", _RESET, "\x1b[00m")


def log_line(text: str) -> str:
    """A line that a user's program has printed, as it may be shown on any terminal.

    Colours stay, and end with the line. What draws (moves the cursor, erases, sets titles) is left out, as a program's
    progress bars are full of it; other control characters are shown as `visible` shows them.
    """
    last = ""

    def shown(found: re.Match[str]) -> str:
        nonlocal last
        if found[1] is not None:
            last = found[1]
            return found[1]
        return _escaped(found) if found[2] is not None else ""

    line = _in_logs().sub(shown, text)
    return line if not last or last in _RESETS else f"{line}{_RESET}"
