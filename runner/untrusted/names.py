"""Names that paths are built from, each parsed by one strict rule, wherever it comes from: what is typed, a listing of
a store, a log, a spec, a manifest, a label.

Whoever may write a store may give anything there any name. So a name that does not fit its rule is no name: it is
refused where somebody gives it, and passed over where it is found.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from runner.errors import InputError
from runner.untrusted.visible import CONTROLS, visible

_SHOWN = 80


class Kind:
    """One kind of name.

    Args:
        what: it is called in errors.
        pattern: of the whole name.
        longest: characters.
        words: what the pattern allows.
    """

    def __init__(self, what: str, pattern: str, longest: int, words: str) -> None:
        self.what, self.pattern, self.longest, self.words = what, pattern, longest, words

    @functools.cached_property
    def _fits(self) -> Callable[[str], re.Match[str] | None]:
        return re.compile(self.pattern).fullmatch  # when it is first asked: few commands ask for all kinds

    def fits(self, name: object) -> bool:
        """Whether it is one."""
        return isinstance(name, str) and len(name) <= self.longest and self._fits(name) is not None

    def __call__(self, name: object) -> str:
        """The name, as a string. Raises InputError if it is none."""
        text = str(name) if type(name) is int else name
        if not self.fits(text):
            shown = visible(repr(text))
            shown = shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
            raise InputError(
                f"{self.what} {shown}", allowed=f"{self.words}, at most {self.longest} characters", todo="name another"
            )
        return str(text)


_TIME = "r[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])-(?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]"
_WORD, _WORD_WORDS = "[A-Za-z](?:[A-Za-z0-9_-]*[A-Za-z0-9])?", "letters, digits, '-' and '_', a letter first"

#: As `bundle.new_run_id` makes it, or an older runner did, with three letters at the end and none behind the second.
RUN_ID = Kind(
    "run id",
    f"{_TIME}(?:[a-z0-9]{{2}})?-[a-z](?:[a-z0-9-]*[a-z0-9])?-[a-z0-9]{{2,3}}",
    28,
    "an id such as r261123-181119k4-digits-x7",
)
#: Together short enough for a legible name of every Kubernetes object of a run (run 28 + stage 14 + attempt < 47).
JOB = Kind("job", _WORD, 40, _WORD_WORDS)
STAGE = Kind("stage", _WORD, 14, _WORD_WORDS)
DATASET = Kind("dataset", "[A-Za-z0-9][A-Za-z0-9_.-]*", 60, "letters, digits, '_', '.' and '-'")
#: Of a program of runner.
MODULE = Kind("module", r"[a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)+", 100, "names with dots between")
#: Of Kubernetes.
NAMESPACE = Kind("namespace", "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", 63, "lower-case letters, digits and '-'")
#: At a leg, from 1; 0 stands for none so far.
ATTEMPT = Kind("attempt", "0|[1-9][0-9]*", 6, "a whole number")
STEP = Kind("step", "[0-9]+", 15, "a whole number")
#: The folder of a checkpoint: its step and the attempt that made it, and a number where it was made more than once.
CHECKPOINT = Kind("checkpoint", r"[0-9]{9,15}-[0-9]{1,6}(?:\.[0-9]{1,6})?", 40, "a name such as 000000120-1")
#: A process of a stage: 'driver', 'rank0'.
WRITER = Kind("process", "[A-Za-z0-9][A-Za-z0-9._-]*", 100, "letters, digits, '.', '_' and '-'")
#: What a user's function has saved.
ARTEFACT = Kind("name", "[A-Za-z0-9][A-Za-z0-9._-]*", 100, "letters, digits, '.', '_' and '-'")
#: The first byte of a segment of a log or of metrics.
OFFSET = Kind("offset", "[0-9]{15}", 15, "15 digits")
ENTRY_FILE = Kind("log entry", r"[0-9]{8,12}\.json", 17, "a name such as 00000001.json")
#: The snapshot of a log's entries up to that number.
SNAPSHOT_FILE = Kind("snapshot", r"snapshot-[0-9]{8,12}\.json", 26, "a name such as snapshot-00000032.json")
SPEC_FILE = Kind("spec", r"spec(?:-[1-9][0-9]*)?\.json", 20, "spec.json, spec-2.json ...")
CODE_FILE = Kind("code", r"code(?:-[1-9][0-9]*)?\.zip", 20, "code.zip, code-2.zip ...")
#: Of a result, and of the code behind it; of a task, and of what else a result depended on; of a dataset's version.
RESULT = Kind("key", "[0-9a-f]{20}", 20, "20 hex digits")
TASK = Kind("key", "[0-9a-f]{16}", 16, "16 hex digits")
RECORD = Kind("record", r"[0-9a-f]{16}\.json", 21, "16 hex digits and .json")
VERSION = Kind("version", "[0-9a-f]{32}", 32, "32 hex digits")
#: The folder of a version's shards, below the dataset's: the attempt that wrote them, alone or beside others.
FOLDER = Kind(
    "folder", rf"_versions/{RUN_ID.pattern}-[0-9]{{1,6}}(?:\.whole)?", 54, "a name such as _versions/<run id>-1"
)

_PART = rf"(?!\.{{1,2}}(?:/|\Z))[^/\\*?\[\]\t\n{CONTROLS}]+"
#: A path in a store. Wildcards are none: fsspec would look for what fits.
KEY = Kind(
    "path", f"{_PART}(?:/{_PART})*", 1024, "names with '/' between them, without '.', '..', wildcards and control codes"
)
#: A file that lies in a folder itself.
FILE = Kind("file", rf"(?!\.){_PART}", 200, "a name without '/', wildcards and control codes, that begins with no '.'")
#: One name of a path.
PART = Kind("name", _PART, 255, "a name without '/', wildcards and control codes")


def object_name(name: str) -> str:
    """A name of a job or stage as Kubernetes and folders of any disk take it: lower-case, '-' for '_'."""
    return name.lower().replace("_", "-")
