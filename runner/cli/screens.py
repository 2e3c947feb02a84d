"""Two ways to show a run while it goes on: lines that are redrawn on a terminal, or plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, TextIO

from rich.text import Text

from runner.cli.tables import STYLES
from runner.record import StageView, View
from runner.untrusted.visible import log_line
from runner.views import units
from runner.views.progress import Progress, fit, outcome

if TYPE_CHECKING:
    from rich.console import Console

#: Seconds between two plain lines of progress of one stage.
PLAIN_S = 5.0
_SLOT = 12
_SYMBOLS = {"done": "✓", "skipped": "✓", "failed": "✗", "running": "▸", "cancelled": "✗", "lost": "✗"}
_ASCII = {"✓": "+", "✗": "x", "▸": ">", "━": "=", "─": "-", "·": "|"}


class Screen(Protocol):
    """What an attached run draws on. Used as a context manager around the run."""

    def __enter__(self) -> Screen: ...

    def __exit__(self, *error: object) -> None: ...

    def update(self, view: View, progress: Mapping[str, Progress], now: float) -> None:
        """Show how far every stage is."""

    def waits(self, words: str) -> None:
        """What the run waits for now; nothing if there are no words."""

    def line(self, text: str) -> None:
        """Show a line of text: what the user's code printed, or a word of ours."""

    def unfinished(self, text: str) -> None:
        """What stands on the user's last line, which has no end yet (a progress bar); nothing if there is none."""


class PlainScreen:
    """A line when a stage starts or ends, and now and then one of progress.

    Args:
        stream: that takes the lines.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._said: dict[str, str] = {}
        self._bar: tuple[float, str] = (0.0, "")
        self._told: dict[str, tuple[float, str]] = {}
        self._waits = ""

    def __enter__(self) -> PlainScreen:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to put away."""

    def update(self, view: View, progress: Mapping[str, Progress], now: float) -> None:
        """Draw how far every stage is."""
        for stage in view.stages.values():
            said = f"{stage.state} {stage.attempt}"
            if view.resumed is not None and stage.ended is not None and stage.ended < view.resumed:
                continue  # of before the run was resumed
            if stage.state != "waiting" and self._said.get(stage.name) != said:
                self._said[stage.name] = said
                self._told[stage.name] = (now, "")
                self.line(_changed(stage, now))
            if stage.state == "running":
                self._tell(stage.name, fit(progress[stage.name].parts(now), 200), now)

    def _tell(self, stage: str, words: str, now: float) -> None:
        told_at, before = self._told[stage]
        if words and words != before and now - told_at >= PLAIN_S:
            self._told[stage] = (now, words)
            self.line(f"{stage}: {words}")

    def waits(self, words: str) -> None:
        """See `Screen`: a line when it is another."""
        if words and words != self._waits:
            self.line(f"waits for {words}")
        self._waits = words

    def line(self, text: str) -> None:
        """Write a line; what would move a cursor is shown, not obeyed."""
        self._stream.write(log_line(text) + "\n")
        self._stream.flush()

    def unfinished(self, text: str) -> None:
        """See `Screen`: a line now and then, if it has changed."""
        told_at, before = self._bar
        now = time.monotonic()
        if text.strip() and text != before and now - told_at >= PLAIN_S:
            self._bar = (now, text)
            self.line(text)


def _changed(stage: StageView, now: float) -> str:
    if stage.state == "running":
        return f"{stage.name}: started" + (f" (attempt {stage.attempt})" if stage.attempt > 1 else "")
    if stage.state in ("done", "skipped"):
        words = "done before" if stage.state == "skipped" else f"done in {units.seconds(_took(stage, now))}"
        return " · ".join([f"{stage.name}: {words}", *outcome(stage.result)])
    return f"{stage.name}: {stage.state} after {units.seconds(_took(stage, now))}"


def _took(stage: StageView, now: float) -> float:
    return (stage.ended or now) - (stage.started or now)


class LiveScreen:
    """One line a stage, redrawn in place; other lines scroll by above them.

    Args:
        console: a terminal.
    """

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._console = console
        self._ascii = console.options.ascii_only
        self._waits = self._unfinished = ""
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )

    def __enter__(self) -> LiveScreen:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def update(self, view: View, progress: Mapping[str, Progress], now: float) -> None:
        """Draw how far every stage is."""
        names = max((len(name) for name in view.stages), default=0)
        lines = [
            stage_line(stage, progress[stage.name], names, self._console.width, now) for stage in view.stages.values()
        ]
        if self._waits:
            lines.append(Text(shortened(f"  waits for {self._waits}", self._console.width - 1), "yellow"))
        if self._unfinished.strip():
            lines.insert(0, Text.from_ansi(shortened(self._unfinished, self._console.width - 1)))
        text = Text("\n", no_wrap=True, overflow="crop").join(lines)
        if self._ascii:
            text.plain = "".join(_ASCII.get(letter, letter) for letter in text.plain)
        self._live.update(text, refresh=True)

    def waits(self, words: str) -> None:
        """See `Screen`: the last of the lines that are redrawn, with the next update."""
        self._waits = words

    def line(self, text: str) -> None:
        """Write a line; what would move a cursor is shown, not obeyed."""
        self._console.print(Text.from_ansi(log_line(text)), soft_wrap=True)

    def unfinished(self, text: str) -> None:
        """See `Screen`: the first of the lines that are redrawn, with the next update."""
        self._unfinished = text


def shortened(text: str, width: int) -> str:
    """As much of the text as fits."""
    return text if len(text) <= width else f"{text[: width - 3]}..."


def stage_line(stage: StageView, progress: Progress, names: int, width: int, now: float) -> Text:
    """A stage on one line of `width` characters; the column of names is `names` wide."""
    style = STYLES.get(stage.state, "")
    line = Text().append(f"{_SYMBOLS.get(stage.state, ' ')} ", style)
    line.append(stage.name.ljust(names) + "  ", "dim" if stage.state == "waiting" else "bold")
    if stage.state == "running":
        line.append_text(_gauge(progress.fraction, _took(stage, now)))
        words = progress.parts(now) or ["starting"]
    elif stage.state in ("done", "skipped"):
        took = "done before" if stage.state == "skipped" else units.seconds(_took(stage, now))
        line.append(took.ljust(_SLOT), style)
        words = outcome(stage.result)
    else:
        line.append(stage.state.ljust(_SLOT), style)
        words = []
    line.append("  ")
    line.append(fit(words, width - len(line.plain) - 1))
    return line


def _gauge(fraction: float | None, seconds: float) -> Text:
    """A bar, or the time so far where nobody knows how much there is."""
    if fraction is None:
        return Text(units.seconds(seconds).ljust(_SLOT), "cyan")
    filled = int(fraction * _SLOT)
    return Text("━" * filled, "cyan").append("─" * (_SLOT - filled), "dim")
