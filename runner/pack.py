"""`code.zip`: the project's files as they are at submission, and runner's own source."""

from __future__ import annotations

import fnmatch
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

from runner.bundle import Bundle
from runner.code_root import FOLDERS_NOTE
from runner.codehash import project_files
from runner.errors import ProjectError
from runner.imported import import_folders, imported_files, refuse_shadowed
from runner.listed import listed_files
from runner.modules import inside_of
from runner.pack_names import member_of, path_of
from runner.project import Project
from runner.store import Store

LARGEST_BYTES = 64 << 20
#: Files that hold credentials by the custom of their names: a bundle is read by whoever can read its store.
_SECRETS = (
    "*.env", ".env", ".env.*", "*.pem", "*.key", "*.p12", "*.pfx", ".netrc", ".pypirc", ".git-credentials",
    "kubeconfig*", "id_rsa*", "id_ed25519*", "credentials", "credentials.json", "service-account*.json",
)  # fmt: skip
#: Where programs keep them, as the custom of the home folder has it: all below a folder, or one file of it.
_SECRET_FOLDERS, _SECRET_PLACES = (".aws", ".kube"), ((".docker", "config.json"),)
_PACKAGE = Path(__file__).resolve().parent
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(project: Project, entry_files: Iterable[Path], store: Store | None = None) -> bytes:
    """The zip's bytes: ``project/...`` and ``runner/...``; the same files give the same bytes.

    Whatever of the project's modules has been imported, or is imported by the entry files, is there, also if git
    ignores it. Files that hold credentials by their names (`lake.env`, `.env`, `*.pem`, `id_rsa`, `kubeconfig`) stay
    behind, and so do the folders `.aws` and `.kube`; a `.py` is never taken for one. So do stores, and bundles.

    Args:
        project: whose files that git does not ignore are taken. Without a project, only the given files and what
            they import.
        entry_files: the files that hold the job's functions.
        store: of the run, which may lie inside the project.

    Raises:
        ProjectError: more than 64 MiB.
    """
    root = project.root
    entries = _inside(entry_files, root)
    modules = entries | imported_files(root)
    modules |= _inside(project_files([root / inside for inside in modules if inside.suffix == ".py"], root), root)
    refuse_shadowed(modules, root)
    files = {f for f in listed_files(root, store) if not _is_secret(f)} if project.found else set()
    files |= modules
    _check_size(files, root)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for inside in sorted(files):
            _add(archive, member_of(inside), (root / inside).read_bytes())
        _add(archive, f"project/{FOLDERS_NOTE}", import_folders(root, entries).to_bytes())
        for path in sorted(_PACKAGE.rglob("*.py")):
            _add(archive, f"runner/{path.relative_to(_PACKAGE).as_posix()}", path.read_bytes())
    return out.getvalue()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED, 1)


def _is_secret(path: Path) -> bool:
    """Whether a file of the project, by its path there, holds credentials."""
    if any(folder in _SECRET_FOLDERS for folder in path.parts[:-1]) or path.parts[-2:] in _SECRET_PLACES:
        return True
    return path.suffix != ".py" and any(fnmatch.fnmatch(path.name, pattern) for pattern in _SECRETS)


def _inside(files: Iterable[Path], root: Path) -> set[Path]:
    """Those of the project, relative to it."""
    return {inside for inside in (inside_of(path, root) for path in files) if inside is not None}


def _check_size(files: set[Path], root: Path) -> None:
    sizes = {inside: (root / inside).stat().st_size for inside in files}
    total = sum(sizes.values())
    if total > LARGEST_BYTES:
        largest = sorted(sizes, key=lambda p: -sizes[p])[:5]
        shown = ", ".join(f"{p} ({sizes[p] / 2**20:.1f} MiB)" for p in largest)
        raise ProjectError(
            f"the project's files are {total / 2**20:.0f} MiB; the largest: {shown}",
            allowed=f"{LARGEST_BYTES >> 20} MiB of code",
            todo="list data and outputs in .gitignore; data belongs into the lake",
            where=f"project {root}",
        )


def unpack(bundle: Bundle, folder: Path) -> None:
    """The project's files of a run, as they were at submission or at the resume that brought newer ones."""
    with zipfile.ZipFile(io.BytesIO(bundle.store.get(bundle.newest_code()))) as archive:
        for name in archive.namelist():
            inside = path_of(name)
            if inside is None:
                continue
            target = folder / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))
    folder.mkdir(parents=True, exist_ok=True)
