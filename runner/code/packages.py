"""Packages that a job needs besides what its environment has: locked at submission, installed once on each machine.

Ray's own way (`runtime_env={"uv": ...}`) copies the whole virtual environment on every node, PyTorch included, and
leaves out the driver. Here only what is missing is installed, into a folder of its own that is put before the rest.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from runner.code import extras, references
from runner.code.dependencies import normal
from runner.errors import PlanError, RunFailed
from runner.process import private

#: What every environment brings itself, built for its machines.
BROUGHT = ("torch", "lake-runner")
#: By this name every part of ours, and of others, knows that what is inside is installed, and no code of the user's.
FOLDER = "site-packages"
#: The lock on machines of the run, beside its code.
_LOCK = "packages.lock"


def lock(requirements: Sequence[str]) -> str:
    """Exact versions, with hashes, of the packages and of all that they need; nothing that is installed changes.

    Args:
        requirements: such as 'humanize' or 'tokenizers>=0.20'.

    Raises:
        PlanError: there are no such versions, or none beside those that are installed here.
    """
    with tempfile.TemporaryDirectory() as folder:
        constraints, excludes = Path(folder, "constraints.txt"), Path(folder, "excludes.txt")
        installed = _installed()
        kept = {name: version for name, version in installed.items() if name not in BROUGHT and "+" not in version}
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in kept.items()))
        excludes.write_text("".join(f"{name}\n" for name in {*BROUGHT, *installed} - kept.keys()))
        done = _uv(
            "compile",
            "-",
            "--universal",
            "--generate-hashes",
            "--no-header",
            "--no-annotate",
            "--quiet",
            f"--python-version={sys.version_info.major}.{sys.version_info.minor}",
            f"--constraint={constraints}",
            f"--excludes={excludes}",
            stdin="\n".join(requirements),
        )
    if done.returncode != 0:
        raise PlanError(
            f"packages={list(requirements)}: {_words(done.stderr)}",
            allowed="packages that exist in versions that fit what is installed here",
            todo="change their names or versions, or the environment that you submit from and the cluster's image",
        )
    return done.stdout


def provide(text: str) -> Path | None:
    """Make the locked packages importable in this process and those that it starts.

    Returns:
        The folder that holds what was missing; None if nothing was.

    Raises:
        RunFailed: they cannot be installed here.
    """
    wanted = missing(text)
    if not wanted:
        return None
    body = "\n".join(wanted) + "\n"
    version = f"{sys.implementation.cache_tag}-{os.uname().machine}"
    folder = _root() / "packages" / hashlib.sha256(f"{version}\n{body}".encode()).hexdigest()[:16] / FOLDER
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.with_suffix(".lock")):
        if not is_whole(folder):
            _install(body, folder)
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    importlib.invalidate_caches()
    return folder


def missing(text: str) -> list[str]:
    """The entries of a lock that this environment has not in that very version."""
    installed = _installed()
    return [entry for entry, name, version in _entries(text) if installed.get(name) != version]


def versions(text: str) -> dict[str, str]:
    """Normal name -> version of what a lock has."""
    return {name: version for _, name, version in _entries(text)}


def _entries(text: str) -> Iterator[tuple[str, str, str]]:
    """(entry, normal name, version) of each."""
    for entry in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", entry)
        if match:
            yield entry, normal(match[1]), match[2]


def leave_for_nodes(lock: str) -> None:
    """Beside the code, which Ray carries to every other machine; see `provide_on_node`."""
    folder = references.code_folder()
    if folder is not None:
        (folder / _LOCK).write_text(lock)


def provide_on_node() -> None:
    """As Ray's workers begin: the lock lies beside the code that Ray has brought."""
    folder = references.code_folder()
    if folder is not None and (folder / _LOCK).exists():
        provide((folder / _LOCK).read_text())


def is_whole(folder: Path) -> bool:
    """Whether the folder has every file as it was installed, and is this user's: it is used by later runs too."""
    try:
        noted = _note(folder).read_text()
    except OSError:
        return False
    return private.is_own(folder) and noted == _digest(folder)


def _note(folder: Path) -> Path:
    return folder.with_suffix(".files")


def _digest(folder: Path) -> str:
    """Of every file's path, size and time of change; what Python compiles beside them, later, does not count."""
    lines = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in files:
            path = Path(place, name)
            found = path.lstat()
            lines.append(f"{path.relative_to(folder)} {found.st_size} {found.st_mtime_ns}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _install(body: str, folder: Path) -> None:
    """Beside the folder first, then renamed: a half-filled one is never used."""
    beside = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        done = _uv(
            "install",
            "--requirement=-",
            "--require-hashes",
            "--no-deps",
            "--quiet",
            f"--target={beside}",
            f"--python={sys.executable}",
            stdin=body,
        )
        if done.returncode != 0:
            raise RunFailed(f"the job's packages cannot be installed on {os.uname().nodename}: {_words(done.stderr)}")
        beside.chmod(0o755)
        if folder.is_symlink():
            folder.unlink()
        shutil.rmtree(folder, ignore_errors=True)
        _note(folder).write_text(_digest(beside))
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _uv(command: str, *arguments: str, stdin: str) -> subprocess.CompletedProcess[str]:
    extras.need("packages", "a job that brings packages")
    environment = {**os.environ, "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", str(_root() / "uv"))}
    return subprocess.run(
        [sys.executable, "-m", "uv", "pip", command, *arguments],
        input=stdin,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _root() -> Path:
    """What goes with the machine where the run has one of its own; kept for the next run on a laptop."""
    if references.code_folder() is not None:
        return private.make_own_folder(Path("/tmp"), "lake-runner")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lake-runner"


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process of this machine at a time."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _installed() -> dict[str, str]:
    return {normal(each.metadata["Name"]): each.version for each in importlib.metadata.distributions()}


def _words(text: str) -> str:
    return " ".join(text.split())[:1500]
