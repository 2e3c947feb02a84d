"""`code.zip`: the project's files as they are at submission, and runner's own source."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from runner.code.archive_names import member_of, path_of
from runner.code.data_files import DIGITS
from runner.code.hashing import modules_elsewhere, project_files
from runner.code.imported import import_folders, imported_files, refuse_shadowed
from runner.code.listing import listed_files
from runner.code.modules import inside_of
from runner.code.outside import files_of, only_here, path_entries
from runner.code.references import FunctionRef
from runner.errors import ProjectError
from runner.process.code_root import FILES_NOTE, FOLDERS_NOTE, OUTSIDE
from runner.process.package import NAME, PACKAGE
from runner.store import Store
from runner.store.credentials import is_file_of_secrets
from runner.untrusted.shapes import broken


class ProjectFolder(Protocol):
    """What is packed of: the folder of a project, or one where none was found, of which only single files count."""

    @property
    def root(self) -> Path:
        """Of all paths in the archive."""
        ...

    @property
    def found(self) -> bool:
        """Whether it is a project."""
        ...


LARGEST_BYTES = 64 << 20
#: Bytes of an archive's files in all (beside the project's there are modules from elsewhere), and of a file's name.
_MOST_UNPACKED, _LONGEST_NAME = 4 * LARGEST_BYTES, 255
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(
    project: ProjectFolder,
    entry_files: Iterable[Path],
    store: Store | None = None,
    functions: Iterable[FunctionRef] = (),
    *,
    remote: bool = False,
) -> bytes:
    """The zip's bytes: ``project/...`` and ``runner/...``; the same files give the same bytes.

    Whatever of the project's modules has been imported, or is imported by the entry files, is there, also if git
    ignores it. Files that hold credentials by their names (`lake.env`, `*.pem`, `id_rsa`, whatever is in `.aws`; see
    `credentials`) stay behind, and so do links to files outside that are no modules, stores, and bundles.

    Args:
        project: whose files that git does not ignore are taken. Without a project, only the given files and what
            they import.
        entry_files: the files that hold the job's functions.
        store: of the run, which may lie inside the project.
        functions: of the job; modules outside the project that those of a notebook use are found by them.
        remote: the run's processes are on other machines: such modules travel, where only this process finds them.

    Raises:
        ProjectError: more than 64 MiB.
    """
    root = project.root
    entries = _inside(entry_files, root)
    modules = entries | imported_files(root)
    modules |= _inside(project_files([root / inside for inside in modules if inside.suffix == ".py"], root), root)
    refuse_shadowed(modules, root)
    brought = _elsewhere([root / inside for inside in modules], functions, root, remote=remote)
    files = {inside: root / inside for inside in {*_listed(project, store), *modules}}
    folders = import_folders(root, entries)
    if remote:
        found = (each for top, base in brought.items() for each in files_of(top, base).items())
        files |= {Path(OUTSIDE, name): path for name, path in found}
        folders = dataclasses.replace(folders, first=(*folders.first, *([OUTSIDE] if brought else [])))
    else:
        before, after = path_entries(brought.values())
        folders = dataclasses.replace(folders, before=tuple(before), after=tuple(after))
    _check_size(files, root)
    out = io.BytesIO(_own_source())
    with zipfile.ZipFile(out, "a") as archive:
        noted = {}
        for inside in sorted(files):
            data = files[inside].read_bytes()
            noted[inside.as_posix()] = hashlib.sha256(data).hexdigest()[:DIGITS]
            _add(archive, member_of(inside), data)
        _add(archive, f"project/{FOLDERS_NOTE}", folders.to_bytes())
        _add(archive, f"project/{FILES_NOTE}", json.dumps(noted).encode())
    return out.getvalue()


def pack_run(project: ProjectFolder, spec: Mapping[str, Any], store: Store, *, remote: bool) -> bytes:
    """The zip of a run that has this spec, in the process that has loaded its job. See `pack`."""
    functions = functions_of(spec)
    files = [project.root / function.file for function in functions if function.file is not None]
    return pack(project, files, store, functions, remote=remote)


def functions_of(spec: Any) -> list[FunctionRef]:
    """The functions and classes that a spec names, wherever in it."""
    return [FunctionRef.from_json(raw) for raw in _references(spec)]


def _references(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if value.get("kind") == "FunctionRef":
            yield value
        for part in value.values():
            yield from _references(part)
    elif isinstance(value, list):
        for part in value:
            yield from _references(part)


def _elsewhere(files: Iterable[Path], functions: Iterable[FunctionRef], root: Path, *, remote: bool) -> dict[str, Path]:
    """Top-level name -> its folder, of the modules outside the project that only this process finds; theirs as well."""
    found: dict[str, Path] = {}
    new = only_here(modules_elsewhere(files, functions, root), remote=remote)
    while new:
        found |= new
        files = [path for top, base in new.items() for path in files_of(top, base).values()]
        more = modules_elsewhere(files, (), root)
        new = only_here({top: base for top, base in more.items() if top not in found}, remote=remote)
    return found


@functools.cache
def _own_source() -> bytes:
    """A zip of runner's own source, packed once by a process however many runs it submits."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path in sorted(PACKAGE.rglob("*.py")):
            _add(archive, f"{NAME}/{path.relative_to(PACKAGE).as_posix()}", path.read_bytes())
    return out.getvalue()


def listed_names(project: ProjectFolder, store: Store | None = None) -> list[str]:
    """The names of the files of the project that travel, without modules that only its imports take along."""
    return [path.as_posix() for path in _listed(project, store)]


def _listed(project: ProjectFolder, store: Store | None) -> set[Path]:
    return {f for f in listed_files(project.root, store) if not _stays(project.root, f)} if project.found else set()


def left_out(project: ProjectFolder, store: Store | None = None) -> list[str]:
    """The files of a project that stay behind, though git does not ignore them; see `pack`."""
    listed = listed_files(project.root, store) if project.found else set()
    return sorted(path.as_posix() for path in listed if _stays(project.root, path))


def _stays(root: Path, inside: Path) -> bool:
    """Whether a file holds credentials by its name, or is a link to what is no part of the project and no module."""
    if is_file_of_secrets(inside):
        return True
    path = root / inside
    if not path.is_symlink() or path.suffix == ".py":
        return False
    target = path.resolve()
    return not target.is_relative_to(root.resolve()) or is_file_of_secrets(target.relative_to(root.resolve()))


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED, 1)


def _inside(files: Iterable[Path], root: Path) -> set[Path]:
    """Those of the project, relative to it."""
    return {inside for inside in (inside_of(path, root) for path in files) if inside is not None}


def _check_size(files: Mapping[Path, Path], root: Path) -> None:
    sizes = {inside: path.stat().st_size for inside, path in files.items()}
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


def unpack(data: bytes, folder: Path, where: str) -> None:
    """The project's files of an archive.

    Args:
        data: of the archive, which lies at `where`.

    Raises:
        StoreBroken: the archive is none, is larger than one may be, or has a file that would lie outside of `folder`.
            Nothing was written.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {info: inside for info in archive.infolist() if (inside := path_of(info.filename)) is not None}
            _check_members(members, where)
            for info, inside in members.items():
                target = folder / inside
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(_content(archive, info))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError, RuntimeError) as error:
        raise broken(where, f"no archive of code: {error}") from error
    folder.mkdir(parents=True, exist_ok=True)


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """As many bytes as the member says that it has: what says less than it becomes is not unpacked beyond that."""
    with archive.open(info) as file:
        return file.read(info.file_size)


def _check_members(members: Mapping[zipfile.ZipInfo, str], where: str) -> None:
    """Every file lies in the folder, none in the place of another's folder, and all of them fit a project."""
    files = list(members.values())
    for inside in files:
        if "\0" in inside or any(part in ("", ".", "..") or len(part) > _LONGEST_NAME for part in inside.split("/")):
            raise broken(where, f"a file {inside[:80]!a}, which is none of a project")
    folders = {"/".join(parts[:n]) for parts in (inside.split("/") for inside in files) for n in range(1, len(parts))}
    if len(set(files)) < len(files) or folders & set(files):
        raise broken(where, "two files at one place")
    kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of others zipfile makes at once all that they become
    if any(info.compress_type not in kinds for info in members):
        raise broken(where, "a compression that is none of code")
    if sum(info.file_size for info in members) > _MOST_UNPACKED:
        raise broken(where, f"more than {_MOST_UNPACKED >> 20} MiB of files")
