"""`code.zip`: the project's files as they are at submission, and runner's own source."""

from __future__ import annotations

import fnmatch
import io
import os
import subprocess
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from runner.codehash import project_files
from runner.errors import ProjectError
from runner.project import Project

LARGEST_BYTES = 64 << 20
_SKIPPED = {"__pycache__", "node_modules", "venv", "build", "dist"}
#: Files that hold credentials by the custom of their names: a bundle is read by whoever can read its store.
_SECRETS = (
    "*.env", ".env", ".env.*", "*.pem", "*.key", "*.p12", "*.pfx", ".netrc", ".pypirc", ".git-credentials",
    "kubeconfig*", "id_rsa*", "id_ed25519*", "credentials", "credentials.json", "service-account*.json",
)  # fmt: skip
#: Where programs keep them, as the custom of the home folder has it: all below a folder, or one file of it.
_SECRET_FOLDERS, _SECRET_PLACES = (".aws", ".kube"), ((".docker", "config.json"),)
_PACKAGE = Path(__file__).resolve().parent
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(project: Project, entry_files: Iterable[Path]) -> bytes:
    """The zip's bytes: ``project/...`` and ``runner/...``; the same files give the same bytes.

    Files that hold credentials by their names (`lake.env`, `.env`, `*.pem`, `id_rsa`, `kubeconfig`) stay behind, and so
    do the folders `.aws` and `.kube`. A `.py` is never taken for one.

    Args:
        project: whose files that git does not ignore are taken. Without a project, only the given files and what
            they import.
        entry_files: the files that hold the job's functions.

    Raises:
        ProjectError: more than 64 MiB.
    """
    files = list(_project_files(project)) if project.found else project_files(entry_files, project.root)
    files = sorted(set(files) | {p.resolve() for p in entry_files if p.resolve().is_relative_to(project.root)})
    _check_size(files, project.root)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in files:
            _add(archive, path, f"project/{path.relative_to(project.root).as_posix()}")
        for path in sorted(_PACKAGE.rglob("*.py")):
            _add(archive, path, f"runner/{path.relative_to(_PACKAGE).as_posix()}")
    return out.getvalue()


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), path.read_bytes(), zipfile.ZIP_DEFLATED, 1)


def _project_files(project: Project) -> Iterator[Path]:
    for path in _listed_by_git(project.root) or _walked(project.root):
        if path.is_file() and not path.is_relative_to(_PACKAGE) and not _is_secret(path.relative_to(project.root)):
            yield path


def _is_secret(path: Path) -> bool:
    """Whether a file of the project, by its path there, holds credentials."""
    if any(folder in _SECRET_FOLDERS for folder in path.parts[:-1]) or path.parts[-2:] in _SECRET_PLACES:
        return True
    return path.suffix != ".py" and any(fnmatch.fnmatch(path.name, pattern) for pattern in _SECRETS)


def _listed_by_git(root: Path) -> list[Path]:
    """The files that git does not ignore; none outside a repository or without git."""
    command = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        return []
    if done.returncode != 0:
        return []
    return [root / os.fsdecode(name) for name in done.stdout.split(b"\0") if name and b".runner/" not in name]


def _walked(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f not in _SKIPPED and not f.startswith(".")]
        yield from (Path(folder) / name for name in names if not name.startswith("."))


def _check_size(files: list[Path], root: Path) -> None:
    sizes = {path: path.stat().st_size for path in files}
    total = sum(sizes.values())
    if total > LARGEST_BYTES:
        largest = sorted(sizes, key=lambda p: -sizes[p])[:5]
        shown = ", ".join(f"{p.relative_to(root)} ({sizes[p] / 2**20:.1f} MiB)" for p in largest)
        raise ProjectError(
            f"the project's files are {total / 2**20:.0f} MiB; the largest: {shown}",
            allowed=f"{LARGEST_BYTES >> 20} MiB of code",
            todo="list data and outputs in .gitignore; data belongs into the lake",
            where=f"project {root}",
        )
