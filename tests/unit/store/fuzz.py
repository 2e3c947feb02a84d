"""A store that holds anything: mutations of a good one, and what must hold whatever is there."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from runner.cli.commands import app
from runner.errors import RunnerError
from runner.record import Bundle, kept
from runner.store import Store
from runner.untrusted import skipped
from tests.unit.record.spec_kit import SPEC

LIVE, ENDED = "r260101-000000aa-live-aa", "r260101-000001aa-over-bb"
NAME = f"_versions/{ENDED}-1"
#: Made once: that takes longer than most of the commands.
COMMAND = get_command(app)
#: Of each input every one of these is called, or so many as are asked for.
COMMANDS = (
    ["ps"], ["status", LIVE], ["status", ENDED], ["logs", LIVE], ["data", "ls"], ["gc"], ["checkpoints", ENDED],
    ["why", LIVE],
)  # fmt: skip
#: What a terminal would obey.
SHOWN_BADLY = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f\u2028\u2029]")
#: Documented in docs/cli.md: done, failed, wrong input.
CODES = (0, 1, 2)
TRAVERSALS = ["..", ".", "../x", "/tmp/x", "a/../../x", "*", "?", "[a]", "", "~", "\\", "x" * 300, "datasets", "index"]
CONTROLS = ["\x1b]52;c;cm0gLXJmIH4K\x07", "\x1b[2J", "\x9b2J", "\u202e", "\u2028", "\x7f", "\r\n", "\t"]
NUMBERS: list[Any] = [-1, 0, 1, 2**31, 2**63, 2**64, 10**400, 1e308, -1e308, 0.1, float("nan"), float("inf"), True]
PLACES = [
    f"{LIVE}/log/00000001.json", f"{LIVE}/log/00000002.json", f"{LIVE}/log/00000003.json", f"{LIVE}/log/00000004.json",
    f"{ENDED}/log/00000001.json", f"{ENDED}/log/00000002.json", f"{ENDED}/log/00000003.json",
    f"{ENDED}/log/00000004.json", f"{ENDED}/log/00000005.json", f"{LIVE}/spec.json", f"{ENDED}/spec.json",
    f"{ENDED}/checkpoints/train/000000005-1/manifest.json", f"{LIVE}/cluster.json",
    f"{LIVE}/stages/train/1/metrics/rank0/000000000000000", f"{LIVE}/stages/train/1/times/rank0/000000000000000",
    "datasets/d/_log/00000001.json", "datasets/d/_log/00000002.json", "datasets/d/_summary.json",
    f"results/{'a' * 20}/{'b' * 16}.json", f"tasks/{'c' * 20}/{'d' * 16}.json",
]  # fmt: skip


def _entry(kind: str, at: float = 1.0, **data: Any) -> dict[str, Any]:
    return {"kind": kind, "at": at, "data": data, "mark": "aaaa"}


def good() -> dict[str, bytes]:
    """Key -> content of a store with a run that goes on, one that has ended, a dataset, a result and a task."""
    key = "checkpoints/train/000000005-1"
    submitted = _entry("submitted", job="tiny", legs=[["train"]], by="ann", inline=False)
    attempt = _entry("attempt", leg=0, attempt=1)
    started = _entry("stage-started", stage="train", attempt=1)
    row = {"at": 2.0, "step": 1, "loss": 2.0, "samples": 3, "wait_share": 0.5, "steps_total": 9, "samples_per_s": 4.0}
    version = {"id": "0" * 32, "folder": NAME, "rows": 1, "bytes": 1, "files": 1, "key": "a" * 20, "run": ENDED}
    sink = {
        **{n: version[n] for n in ("id", "folder", "rows", "bytes", "files")},
        "dataset": "d",
        "data": [{"path": "p"}],
    }
    counts = {"rows_in": 1, "processed": 1, "filtered": 0, "quarantined": 0, "bytes_in": 1}
    result = {
        "key": "a" * 20, "at": 1.0, "run": ENDED, "sinks": {"": sink}, "code": {}, "config": {}, "settings": {},
        "inputs": {}, "deps": {}, "packages": {}, "counts": counts, "tasks": 1, "quarantine": [],
    }  # fmt: skip
    written = {"path": "p", "folder": NAME, "rows": 1, "bytes": 1, "md5": "", "sha256": "", "units": [], "schema": "",
               "source": ""}  # fmt: skip
    task = {
        **counts, "key": "d" * 16, "run": ENDED, "loaded": [], "quarantine": None, "first_error": None,
        "first_trace": None, "sinks": {"": {"files": [written], "columns": None}}, "deps": {}, "packages": {},
    }  # fmt: skip
    done = {"steps": 5, "metrics": {"loss": 1.0}, "seconds": 2.0}
    documents: dict[str, Any] = {
        f"{LIVE}/spec.json": SPEC, f"{ENDED}/spec.json": SPEC, f"{LIVE}/log/00000001.json": submitted,
        f"{LIVE}/log/00000002.json": _entry("supervisor", host="elsewhere", pid=1, started=0.0),
        f"{LIVE}/log/00000003.json": attempt, f"{LIVE}/log/00000004.json": started,
        f"{ENDED}/log/00000001.json": submitted, f"{ENDED}/log/00000002.json": attempt,
        f"{ENDED}/log/00000003.json": _entry(
            "checkpoint", stage="train", step=5, key=key, metrics={"loss": 1.0}, best=True, sha256="x"
        ),
        f"{ENDED}/log/00000004.json": _entry("stage-done", stage="train", attempt=1, result=done),
        f"{ENDED}/log/00000005.json": _entry("ended", state="succeeded", error=None, seconds=1.0, remains={}),
        f"{ENDED}/{key}/manifest.json": {"files": {"m.pt": {"sha256": "x", "bytes": 3}}, "step": 5},
        f"{LIVE}/cluster.json": {"mark": "m", "address": "https://x"},
        f"{LIVE}/stages/train/1/metrics/rank0/000000000000000": row,
        f"{LIVE}/stages/train/1/times/rank0/000000000000000": [[0, 1.0]],
        "datasets/d/_log/00000001.json": _entry("version", **version),
        "datasets/d/_log/00000002.json": _entry("removed", ids=["1" * 32]),
        "datasets/d/_summary.json": {
            "number": 2, "mark": "aaaa", "versions": [{"number": 1, "at": 1.0, "data": version}],
        },
        f"results/{'a' * 20}/{'b' * 16}.json": result, f"tasks/{'c' * 20}/{'d' * 16}.json": task,
    }  # fmt: skip
    return {
        **{place: json.dumps(document).encode() for place, document in documents.items()},
        f"index/live/{LIVE}~tiny~live~0": b"", f"index/260101/{ENDED}~tiny~succeeded~1": b"",
        f"{LIVE}/stages/train/1/logs/rank0/000000000000000": b"hello\n", f"datasets/d/{NAME}/p": b"x",
        f"{ENDED}/{key}/m.pt": b"xyz",
    }  # fmt: skip


class Fuzz:
    """Puts one thing after the other into a store and looks at it with every command.

    Args:
        folder: of the store, of a canary beside it and of whatever is copied out.
        seed: of all that is drawn.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.root, self.canary, self.out = folder / "store", folder / "canary", folder / "out"
        self.canary.mkdir(parents=True)
        (self.canary / "precious").write_text("mine")
        self.files = good()
        for key, data in self.files.items():
            self._write(self.root / key, data)
        self.around = _tree(folder, self.root)
        self.before = folder

    def one(self, number: int, commands: int = len(COMMANDS)) -> None:
        """One input: drawn, put, looked at, and taken away again. Raises AssertionError where something does not hold.

        Args:
            commands: how many look at it, by turns.
        """
        what, undo = self._put()
        seen = _tree(self.root)
        try:
            for turn in range(commands):
                words = COMMANDS[(number * commands + turn) % len(COMMANDS)]
                self._call(words, f"input {number}: {what}")
            assert _tree(self.root) == seen, f"input {number}: {what}: the store has changed"
            if not what.startswith("a large"):  # who copies it wants all of it
                self._copy_out()
            assert _tree(self.before, self.root) == self.around, f"input {number}: {what}: changed outside of it"
        finally:
            undo()

    def _call(self, words: list[str], what: str) -> None:
        out, err = io.StringIO(), io.StringIO()
        skipped.forget()
        code: object = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                COMMAND.main([*words, "--store", str(self.root)], prog_name="runner")
            except SystemExit as left:
                code = left.code or 0
        said = out.getvalue() + err.getvalue()
        assert code in CODES, f"{what}: {words} exits {code}\n{said}"
        assert "Traceback" not in said, f"{what}: {words}\n{said}"
        assert "bug of runner" not in said, f"{what}: {words}\n{said}"
        assert not re.search(
            r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f\u2028\u2029]", said
        ), what

    def _copy_out(self) -> None:
        """What is brought to this machine lies where it was asked for."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        bundle = Bundle(Store(str(self.root)), ENDED)
        with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(RunnerError, FileNotFoundError):
            kept.copy(bundle, "checkpoints", self.out)
        shutil.rmtree(self.out)

    # -- what is drawn -------------------------------------------------------------------------------------------

    def _put(self) -> tuple[str, Any]:
        kinds = [self._a_name, self._a_value, self._a_value, self._a_value, self._bytes, self._a_gap, self._no_file]
        return self.random.choice(kinds)()

    def _word(self) -> str:
        pool = [*TRAVERSALS, *CONTROLS, LIVE, ENDED, "x", "live", "nan", "inf", "1e999", "0", "-1", "007", "²", "%00"]
        return "".join(self.random.choice(pool) for _ in range(self.random.randint(1, 3)))

    def _a_name(self) -> tuple[str, Any]:
        """A file whose name is anything, in a folder whose names are read."""
        folders = [
            "index",
            "index/live",
            "index/260101",
            "datasets",
            "results",
            "tasks",
            f"{LIVE}/log",
            "datasets/d/_log",
            f"{LIVE}/stages",
            "",
            f"{LIVE}/stages/train/1/logs/rank0",
            f"{ENDED}/checkpoints/train",
            "datasets/d/_versions",
        ]
        folder = self.random.choice(folders)
        name = "~".join(self._word() for _ in range(self.random.randint(1, 7))) if "index" in folder else self._word()
        name = name.replace("/", "").replace("\0", "")[:120]
        if name in ("", ".", "..") or (self.root / folder / name).exists():
            name = "a~b~c~d"
        path = self.root / folder / name
        path.touch()
        return f"{folder}/{name!r}", path.unlink

    def _a_value(self) -> tuple[str, Any]:
        """A JSON document of which one part is another."""
        place = self.random.choice(PLACES)
        document = json.loads(self.files[place])
        for _ in range(self.random.randint(1, 3)):
            document = self._changed(document)
        return self._replace(place, json.dumps(document).encode("utf-8", "surrogatepass"))

    def _changed(self, value: Any) -> Any:
        if isinstance(value, dict) and value and self.random.random() < 0.85:
            name = self.random.choice(list(value))
            draw = self.random.random()
            if draw < 0.1:
                return {key: part for key, part in value.items() if key != name}
            if draw < 0.2:
                return {**value, self._word(): self._any()}
            return {**value, name: self._changed(value[name])}
        if isinstance(value, list) and value and self.random.random() < 0.7:
            at = self.random.randrange(len(value))
            return [*value[:at], self._changed(value[at]), *value[at + 1 :]]
        return self._any()

    def _any(self) -> Any:
        draw = self.random.randrange(8)
        if draw == 0:
            return self.random.choice(NUMBERS)
        if draw == 1:
            return [self._any() for _ in range(self.random.randint(0, 3))]
        if draw == 2:
            return {self._word(): self._any() for _ in range(self.random.randint(0, 3))}
        return None if draw == 3 else self._word() if draw < 7 else [[[[[[{}]]]]]]

    def _bytes(self) -> tuple[str, Any]:
        """No JSON, or a great deal of it."""
        deep = b"[" * 3000
        pool = [b"", b"\xff\xfe", b"null", b"{}", deep, b"[" * 300 + b"]" * 300, b"9" * 5000, b'{"kind":', b"\0" * 9,
                self.random.randbytes(40)]  # fmt: skip
        place = self.random.choice(PLACES)
        data = self.random.choice(pool)
        if self.random.random() < 0.3:
            data = self.files[place][: self.random.randrange(len(self.files[place]))]
        return self._replace(place, data)

    def _a_gap(self) -> tuple[str, Any]:
        """An entry that is not there, or one behind others that are not."""
        place = self.random.choice([each for each in PLACES if "/log/" in each or "/_log/" in each])
        (self.root / place).unlink()
        return f"no {place}", lambda: self._write(self.root / place, self.files[place])

    def _no_file(self) -> tuple[str, Any]:
        """A pipe, a link, a folder or a file of a gibibyte in the place of one."""
        place = self.random.choice(PLACES)
        path = self.root / place
        path.unlink()
        kind = self.random.choice(["pipe", "link", "loop", "folder", "large"])
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "link":
            path.symlink_to(self.canary / "precious")
        elif kind == "loop":
            path.symlink_to(path.name)
        elif kind == "folder":
            path.mkdir()
        else:
            path.touch()
            os.truncate(path, 1 << 30)

        def undo() -> None:
            path.rmdir() if kind == "folder" else path.unlink()
            self._write(path, self.files[place])

        return f"a {kind} at {place}", undo

    def _replace(self, place: str, data: bytes) -> tuple[str, Any]:
        self._write(self.root / place, data)
        return f"{place} = {data[:300]!r}", lambda: self._write(self.root / place, self.files[place])

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _tree(top: Path, besides: Path | None = None) -> dict[str, Any]:
    """What lies below a folder: path -> kind, size, and when it was changed."""
    found = {}
    for folder, folders, names in os.walk(top):
        if besides is not None and Path(folder) == besides:
            folders.clear()
            continue
        for name in (*folders, *names):
            stat = os.lstat(os.path.join(folder, name))
            is_folder = os.path.isdir(os.path.join(folder, name))
            facts = (stat.st_mode,) if is_folder else (stat.st_mode, stat.st_size, stat.st_mtime_ns)
            found[os.path.join(folder, name)] = facts
    return found


def archives(seed: int, count: int) -> Iterator[bytes]:
    """Zips like `code.zip` whose members are called anything."""
    draw = random.Random(seed)
    for _ in range(count):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for _ in range(draw.randint(1, 4)):
                name = draw.choice(["project/", "project%/", "", "runner/"]) + "/".join(
                    draw.choice(["..", ".", "", "a", "%2e%2e", "%2f", "x" * 300, "\x1b", "C:", "\\.."])
                    for _ in range(draw.randint(1, 4))
                )
                info = zipfile.ZipInfo(name)
                info.external_attr = draw.choice([0, 0o120777 << 16, 0o40755 << 16])
                archive.writestr(info, draw.choice(["../../canary/precious", "x"]))
        yield out.getvalue()
