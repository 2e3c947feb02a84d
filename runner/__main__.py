"""``python -m runner`` is the command ``runner``."""

import os
import signal
import sys


def _leave(number: int, frame: object) -> None:
    os._exit(130)  # nothing was started, and nothing is loaded that could say so


if __name__ in ("__main__", "runner.__main__"):  # the console script's too, but not that of a child of this process
    signal.signal(signal.SIGINT, _leave)  # until `interrupts` listens

from runner.cli.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
