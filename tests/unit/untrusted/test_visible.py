"""What somebody else wrote reaches a terminal, a picture or a label without what they would obey."""

from __future__ import annotations

import io
import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from rich.text import Text

from runner.cli import console as shown
from runner.cli.plot import save_plot
from runner.cli.screens import PlainScreen
from runner.cli.tables import plain_table
from runner.errors import DataError, UserCodeError
from runner.record.failures import Failure
from runner.untrusted.visible import log_line, one_line, visible

#: What sets a clipboard or a title, clears a screen, writes over lines, turns the direction of reading.
ATTACKS = [
    "\x1b]52;c;cm0gLXJmIH4K\x07", "\x1b]0;title\x1b\\", "\x1b[2J\x1b[H", "\x9b2J", "\x9d0;title\x9c", "\x1bP$q\x1b\\",
    "\x1bc", "a\u202eb", "\u2066x\u2069", "\u200e\u200f", "a\u2028b\u2029", "\x7f", "\x00\x01\x1f", "\x85", "\x1b",
    "\x1b[", "\x1b]unfinished", "\ud800",
]  # fmt: skip


def controls(text: str) -> str:
    """The control characters of a text, without tabs and newlines."""
    return "".join(c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in "\t\n")


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_control_character_is_printed(attack: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By a console (tables and errors too, on a terminal or not), by `say`, on a plain screen, or as JSON."""
    for terminal in (False, True):
        stream = io.StringIO()
        out = shown.console(stream)
        out._force_terminal, out._color_system = terminal, None
        table = plain_table("name", f"header{attack}")
        table.add_row(Text(f"cell{attack}"), f"cell{attack}")
        for what in (Text(f"x{attack}y"), f"x{attack}y", table, f"error: {attack}"):
            out.print(what, soft_wrap=True)
        assert not controls(stream.getvalue())
    shown.say(f"x{attack}y")
    shown.say(f"x{attack}y", err=True)
    shown.print_json({f"k{attack}": f"v{attack}"})
    captured = capsys.readouterr()
    assert not controls(captured.out + captured.err)
    stream = io.StringIO()
    PlainScreen(stream).line(f"x{attack}y")
    assert not controls(stream.getvalue())


def test_json_keeps_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    """A reader of the document gets the very characters."""
    text = "".join(attack for attack in ATTACKS if attack != "\ud800")
    shown.print_json({"line": text})
    assert json.loads(capsys.readouterr().out) == {"line": text}


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a\x1bb", r"a\x1bb"),
        ("a\u202eb", r"a\u202eb"),
        ("\x85", r"\x85"),
        ("tab\tnew\nline", "tab\tnew\nline"),
        ("naïve 日本 🚀 \u200d", "naïve 日本 🚀 \u200d"),
    ],
)
def test_what_is_taken_away_is_shown_instead(text: str, seen: str) -> None:
    """As Python writes it; letters of any script, tabs and newlines stay."""
    assert visible(text) == seen


def test_one_line_is_one() -> None:
    """Whatever it had between its words."""
    assert one_line(" a\n\tb\r\nc\x0bd\u2028e ") == "a b c d e"


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("\x1b[1;32mINFO\x1b[0m step 3", "\x1b[1;32mINFO\x1b[0m step 3"),
        ("\x1b[38;5;208mwarm\x1b[38;2;1;2;3mer", "\x1b[38;5;208mwarm\x1b[38;2;1;2;3mer\x1b[0m"),
        ("\x1b[31mred", "\x1b[31mred\x1b[0m"),
        ("\x1b[8mhidden", "hidden"),
        ("\x1b[5mblinks\x1b[m", "blinks\x1b[m"),
        ("\x1b[2K\x1b[1A 50%|####  |", " 50%|####  |"),
        ("1/9 [>..]\x08\x08\x08 done\x07", "1/9 [>..] done"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link", "link"),
        ("\x1b]0;all that follows", r"\x1b]0;all that follows"),
        ("\x1b(B\x1b[?25lx\x1b[?25h", "x"),
        ("a\u202eb\tc", "a\\u202eb\tc"),
        ("half \x1b[", r"half \x1b["),
    ],
)
def test_a_log_stays_readable(line: str, seen: str) -> None:
    """Colours stay and end with their line, drawing is left out, anything else is shown: nothing is swallowed."""
    assert log_line(line) == seen


@pytest.mark.parametrize("kind", [UserCodeError, DataError])
def test_an_error_of_a_log_says_no_more_than_words(kind: type[Exception]) -> None:
    """In a script or a notebook Python prints it itself."""
    failure = Failure.of(kind("found\x1b[2J\nnext"))  # type: ignore[arg-type]
    told = replace(failure, trace="line\n\x1b]0;x\x07").to_error()
    assert not controls(str(told) + told.trace)
    assert "next" in str(told)


def test_a_picture_has_names_as_they_are(tmp_path: Path) -> None:
    """A metric or a stage may be called like a formula, or like what a terminal obeys."""
    rows = [{"stage": "a$\\frac{$", "step": step, "lo$s\x1b[2J\\frac{": 1.0 / step} for step in range(1, 4)]
    save_plot(tmp_path / "x.svg", rows, "t$itle\x1b")
    assert "\x1b" not in (tmp_path / "x.svg").read_text()
