"""The console script: Ctrl-C counts from here on, standard streams are there, and whoever reads them may leave.

It loads nothing before it listens.
"""

from __future__ import annotations

import signal
import sys

from runner import interrupts, streams


def main() -> int:
    """Run the command that `sys.argv` names. Returns its exit code."""
    interrupts.listen()
    streams.make_whole()
    try:
        from runner.cli import app

        app(prog_name="runner")
        code: object = 0
    except SystemExit as left:
        code = left.code
        if code == interrupts.EXIT_CODE and not interrupts.presses.told:
            interrupts.say_nothing_started()
    except (KeyboardInterrupt, ImportError):
        if not interrupts.presses.any:
            raise
        interrupts.say_nothing_started()  # in the midst of an import, of which some tell it in other words
        code = interrupts.EXIT_CODE
    return _leave(code if isinstance(code, int) else 0 if code is None else 1)


def _leave(code: int) -> int:
    """The last lines, and no word of a Ctrl-C that comes while Python ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    left = streams.reader_has_left()
    streams.mute()
    return streams.READER_LEFT if left and code in (0, 1) else code  # 1: what the parser makes of it


if __name__ == "__main__":
    sys.exit(main())
