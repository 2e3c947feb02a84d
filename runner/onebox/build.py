"""Compiles a program from its Go module, once per version, into the user's cache.

A finished program is never compiled again, and needs no Go any more. Two builders of one program wait for each other;
a builder that dies leaves nothing that could be taken for a program.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.errors import InputError
from runner.onebox.versions import Part

#: The hash of every module of every program.
SUMS = Path(__file__).with_name("go.sum")
GO = "1.26.0"  # the newest that one of the modules asks for; Go fetches a newer toolchain itself where it must


def cache() -> Path:
    """The folder of all compiled programs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lake-runner"


def folder(part: Part) -> Path:
    """The folder of one program: the program itself and the folders it comes with."""
    return cache() / f"{part.name}-{part.version}"


def program(part: Part) -> Path:
    """Where the compiled program is, once it is there."""
    return folder(part) / part.name


def missing(parts: tuple[Part, ...]) -> list[Part]:
    """Those that are not compiled yet."""
    return [part for part in parts if not program(part).exists()]


def build(part: Part, say: Callable[[str], None] = lambda text: None) -> Path:
    """The compiled program, compiled now if it is not there yet."""
    if program(part).exists():
        return program(part)
    folder(part).mkdir(parents=True, exist_ok=True)
    with locked(folder(part) / ".lock"):
        if not program(part).exists():
            say(f"compiling {part.name} {part.version}")
            _compile(part)
    return program(part)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file's lock, which the kernel takes back if this process dies."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _compile(part: Part) -> None:
    """Compile in a folder of its own, and move what came of it into place, the program last."""
    if shutil.which("go") is None:
        raise InputError(
            f"{part.name} {part.version} is not compiled yet, and there is no Go to compile it with",
            todo=f"install Go {GO} or newer (https://go.dev/dl) so that `go` is in PATH",
        )
    with tempfile.TemporaryDirectory(dir=folder(part), prefix=".build-") as name:
        work = Path(name)
        _write_module(part, work)
        _go(part, work, "build", "-mod=mod", "-trimpath", "-ldflags", _link_flags(part), "-o", "program", part.path)
        for data in part.data:
            _take_folder(part, work, data)
        refuse_unknown(part, (work / "go.sum").read_text() if part.module else "")
        (work / "program").rename(program(part))


def _write_module(part: Part, work: Path) -> None:
    """A module of ours that requires the wanted one: modules with ``replace`` lines cannot be installed directly."""
    lines = ["module onebox", "", f"go {GO}", ""]
    if part.module:
        shutil.copyfile(SUMS, work / "go.sum")
        lines += [f"require {part.module} {part.version}", ""]
    lines += [f"replace {name} => {name} {version}" for name, version in part.replace]
    (work / "go.mod").write_text("\n".join(lines) + "\n")
    if part.source:
        (work / "main.go").write_text(part.source)
        return
    (work / "tools.go").write_text(f'//go:build tools\n\npackage tools\n\nimport _ "{part.path}"\n')


def refuse_unknown(part: Part, sums: str) -> None:
    """Raise InputError if a program needs modules whose hashes were not known before.

    Args:
        sums: the go.sum with which it was compiled. Go itself refuses a module with another hash than there.
    """
    new = sorted(set(sums.splitlines()) - set(SUMS.read_text().splitlines()))
    if new:
        raise InputError(
            f"{part.name} {part.version} was compiled from {len(new)} modules without a known hash: {new[0]} ...",
            allowed=f"modules of {SUMS.name}",
            todo="make lock-onebox, and look at what it changes",
        )


def sums(parts: tuple[Part, ...]) -> str:
    """The hashes of all modules that programs are compiled from, as Go finds them now."""
    found: set[str] = set()
    for part in parts:
        if not part.module:
            continue
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            _write_module(part, work)
            (work / "go.sum").unlink()
            _go(part, work, "list", "-mod=mod", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", part.path)
            found |= set((work / "go.sum").read_text().splitlines())
    return "\n".join(sorted(found)) + "\n"


def _link_flags(part: Part) -> str:
    """No symbol tables, and the stamped variables."""
    return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in part.stamp)])


def _go(part: Part, work: Path, *arguments: str) -> str:
    """Run Go in a folder, whatever the user's own settings of Go are; its output."""
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off", "GO111MODULE": "on"}
    done = subprocess.run(["go", *arguments], cwd=work, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InputError(
            f"Go cannot compile {part.name} {part.version}: {done.stderr.strip()[-1500:]}",
            todo="see that the Go module proxy can be reached (go env GOPROXY) and that the disk is not full",
        )
    return done.stdout


def _take_folder(part: Part, work: Path, data: str) -> None:
    """Copy a folder of the module beside the program; the module cache is read-only, the copy is not."""
    source = Path(_go(part, work, "list", "-mod=mod", "-m", "-f", "{{.Dir}}", part.module).strip()) / data
    copied = work / "data"
    shutil.copytree(source, copied, copy_function=shutil.copyfile)
    for path in [copied, *copied.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    shutil.rmtree(folder(part) / data, ignore_errors=True)
    (folder(part) / data).parent.mkdir(parents=True, exist_ok=True)
    copied.rename(folder(part) / data)
