"""What a user's function raised inside Ray, as the user's own error."""

from __future__ import annotations

import re

from runner.code.references import user_line, user_trace
from runner.errors import DataError, UserCodeError, is_tool
from runner.spec import Prep
from runner.worker.scope import Scope


class explained:
    """Turns what the user's code raised into UserCodeError; inline, what it raised in this process stays as it is."""

    def __init__(self, stage: Prep, scope: Scope) -> None:
        self._stage, self._scope = stage, scope

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, DataError):
            return
        if (ours := _data_error(error)) is not None:
            raise ours from None
        where = f"Prep '{self._stage.name}'"
        line, text = _from_worker(error)
        if text:  # only words come back from Ray's workers, so this holds inline as well
            raise UserCodeError(f"{where}: {line}", trace=text) from None
        if not self._scope.inline:
            raise UserCodeError(f"{where}: {user_line(error)}", trace=user_trace(error)) from None


def _data_error(error: BaseException | None) -> DataError | None:
    """The error of our own reader behind an error of Ray's, if that is what it was."""
    while error is not None and not isinstance(error, DataError):
        inner = getattr(error, "cause", None)
        error = inner if isinstance(inner, BaseException) and inner is not error else error.__cause__
    return error


_CHAIN = "\n\nThe above exception was the direct cause of the following exception:\n\n"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FRAME = re.compile(r'^  File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>.*)\n(?:    .*\n?)*', re.MULTILINE)


def _from_worker(error: Exception) -> tuple[str, str]:
    """What the user's function raised in a worker of Ray's: (exception and place in one line, traceback).

    Ray carries the original exception as text, inside the exceptions that it wrapped around it. Both are empty if
    `error` did not come from a worker. Frames of Ray, of other installed packages and of runner are left out.
    """
    import ray.exceptions

    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, ray.exceptions.RayTaskError):
        inner = inner.__cause__
    if inner is None:
        return "", ""
    first = _COLOUR.sub("", str(inner)).split(_CHAIN)[0]
    every = list(_FRAME.finditer(first))
    frames = [match for match in every if not is_tool(match["file"])]
    rest = first[every[-1].end() :] if every else first
    raised = "\n".join(line for line in rest.strip().splitlines() if not line.startswith("ray::")) or repr(inner)
    place = f" ({frames[-1]['file']}:{frames[-1]['line']} in {frames[-1]['function']})" if frames else ""
    shown = "".join(match[0] for match in frames)
    return raised.splitlines()[0] + place, f"Traceback (most recent call last):\n{shown}{raised}"
