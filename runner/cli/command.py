"""The command as a process: Ctrl-C counts from here on, standard streams are there, and whoever reads them may leave.

It loads nothing before it listens.
"""

from __future__ import annotations

import signal
import sys

from runner.process import interrupts, streams


def main() -> int:
    """Run the command that `sys.argv` names. Returns its exit code."""
    interrupts.listen()
    streams.make_whole()
    try:
        from runner.cli.commands import app

        app(prog_name="runner")
        code: object = 0
    except SystemExit as left:
        code = left.code
        if code == interrupts.EXIT_CODE and not interrupts.presses.told:
            interrupts.say_nothing_started()
    except OSError as error:  # the parser prints, too
        lost = streams.code_of(error)
        if lost is None:
            raise
        code = lost
    except (KeyboardInterrupt, ImportError):
        if not interrupts.presses.any:
            raise
        interrupts.say_nothing_started()  # in the midst of an import, of which some tell it in other words
        code = interrupts.EXIT_CODE
    return _leave(code if isinstance(code, int) else 0 if code is None else 1)


def _leave(code: int) -> int:
    """The last lines, and no word of a Ctrl-C that comes while Python ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lost = streams.code_of() if code in (0, 1) else None  # 1: what the parser makes of a reader that has left
    streams.mute()
    return code if lost is None else lost


if __name__ == "__main__":
    sys.exit(main())
