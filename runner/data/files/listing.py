"""Files behind a URL: a file, a folder or a glob on any fsspec URL, and how to open one of them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from operator import itemgetter
from typing import Any
from urllib.parse import unquote

from runner.code import extras
from runner.data.files import hub
from runner.data.files import local as local_files
from runner.data.files.compression import compression_of, file_name, refused_compression
from runner.data.files.engines.wholes import keep_whole
from runner.data.files.etags import content_etag
from runner.data.files.opening import filesystem, is_local
from runner.data.files.tables import refuse_tables
from runner.data.files.tasks import in_tasks
from runner.errors import DataError, RunnerError, listed, suggest
from runner.spec.formats import FORMATS, MANIFEST, TABLES, format_of

_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
_THREADS = 16
#: What Hugging Face's tools write beside the data of a dataset.
_NOTES = ("README.md", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
#: Files of this machine up to this size are read whole by who looks at them.
SMALL_BYTES = 64 << 10
#: Files from whose number on a folder is listed, and not asked for each.
_FEW = 64
#: 'zip://a.csv::s3://bucket/b.zip', 'simplecache::s3://...'; but '::' may also stand in a name.
_MAGIC = re.compile(r"[*?\[{]")


@dataclass(frozen=True, slots=True)  # there may be very many
class SourceFile:
    """A file of a dataset: `url` is the base, '/' and `path`; see `Shard` for the other fields.

    Args:
        etag: '' of a small file that is hashed by who reads it next (see `list_files`).
    """

    url: str
    path: str
    size: int
    etag: str
    partitions: Mapping[str, str | None] = field(default_factory=dict)


def list_files(
    url: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    options: Mapping[str, Any] | None = None,
    format: str | None = None,
    hashed: bool = True,
) -> list[SourceFile]:
    """The data files behind `url`, sorted by relative path.

    Names that begin with '.' or '_' are not data (the custom of Hive, Spark and pyarrow), at any depth below
    `url`. Folders called ``name=value`` below `url` are hive partitions.

    Args:
        url: a file, a folder (read with all folders below) or a glob, on any fsspec URL; or several of them, whose
            paths are then relative to the last folder that they have in common.
        options: fsspec storage options.
        format: only checked here; None leaves it to `infer_format`.
        hashed: False leaves small files of this machine without a hash: who reads all of a file anyway need not open
            it twice.

    Raises:
        DataError: nothing is there, it cannot be reached, or it may not be read.
    """
    if format in (*TABLES, MANIFEST):
        raise DataError(
            f"format={format!r}", allowed="Dataset(url, format=...), or a Stream", todo="give it to one", where=str(url)
        )
    if format is not None and format not in FORMATS:
        raise DataError(f"format={format!r}", allowed=listed(FORMATS), todo=suggest(format, FORMATS), where=str(url))
    urls = [url] if isinstance(url, str | os.PathLike) else list(url)
    files = [file for one in urls for file in _listed(os.fspath(one), options, hashed)]
    return _joined(files) if len(urls) > 1 else sorted(files, key=lambda file: file.path)


def with_hash(file: SourceFile, options: Mapping[str, Any] | None) -> SourceFile:
    """The file with the hash that it was listed without. Raises DataError if it may not be read, or is gone."""
    with _reached(file.url):
        fs, path = filesystem(file.url, options)
        return replace(file, etag=content_etag(fs, path, {}))


def _listed(url: str, options: Mapping[str, Any] | None, hashed: bool) -> list[SourceFile]:
    with _reached(url):
        if url.startswith(f"{hub.SCHEME}://"):
            extras.need("hf", f"data at {hub.SCHEME}://")
        fs, root = filesystem(url, options)
        base, found = _find(fs, hub.pinned(fs, root) if hub.is_hub(fs) else root)
        if base not in found:
            refuse_tables(fs, base, found, url)
            found = _without_notes(fs, found)
        places = _places(found, base)
        if not places:
            raise _nothing(url, found)
        for path in places:
            if found[path]["size"] is None:
                found[path]["size"] = keep_whole(fs, path)
        here = is_local(fs)
        left = here and not hashed
        asked = [(path, found[path]) for path in places if not (left and found[path]["size"] <= SMALL_BYTES)]
        tags = dict(zip(map(itemgetter(0), asked), in_tasks(partial(_tag, fs), asked, _THREADS), strict=True))
    return [
        SourceFile(
            path if here else _full_url(fs, path, url), relative, int(found[path]["size"]), tags.get(path, ""), keys
        )
        for path, (relative, keys) in places.items()
    ]


def _tag(fs: Any, item: tuple[str, dict[str, Any]]) -> str:
    return content_etag(fs, *item)


def _places(found: Mapping[str, Any], base: str) -> dict[str, tuple[str, dict[str, str | None]]]:
    """Relative path and hive partition values of each file that is not hidden; those of a folder share them."""
    folders: dict[str, tuple[str, dict[str, str | None]] | None] = {}
    places: dict[str, tuple[str, dict[str, str | None]]] = {}
    for path in found:
        folder, _, name = path.rpartition("/")
        if path == base:
            places[path] = name, {}
            continue
        if folder not in folders:
            inside = _relative(f"{folder}/", base)
            folders[folder] = None if _hidden(inside) else (inside, partitions_of(inside + name))
        there = folders[folder]
        if there is not None and not local_files.is_hidden(name):
            places[path] = there[0] + name, there[1]
    return places


def _without_notes(fs: Any, found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The files without those that Hugging Face's tools write about a dataset beside its data."""
    if not hub.is_hub(fs) and not any(path.endswith(".arrow") for path in found):
        return found
    return {path: info for path, info in found.items() if path.rpartition("/")[2] not in _NOTES}


def known_files(
    url: str,
    parts: Sequence[tuple[str, int, Mapping[str, str | None]]],
    options: Mapping[str, Any] | None,
    what: str,
) -> list[SourceFile]:
    """Files that something names, such as a table's log: nothing else in the folder is looked at.

    Args:
        url: of the folder.
        parts: (relative path, bytes, partition values) of each.
        what: names them, for errors.

    Raises:
        DataError: one is gone, has another size, or cannot be reached.
    """
    with _reached(url):
        fs, root = filesystem(url, options)
        root = root.rstrip("/")
        fs.invalidate_cache()
        many = {} if is_local(fs) or len(parts) <= _FEW else _only_files(fs.find(root, detail=True))
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(lambda part: _known(fs, root, url, part, many, options, what), parts))


def _known(
    fs: Any,
    root: str,
    given: str,
    part: tuple[str, int, Mapping[str, str | None]],
    many: Mapping[str, dict[str, Any]],
    options: Mapping[str, Any] | None,
    what: str,
) -> SourceFile:
    relative, size, partitions = part
    path = f"{root}/{relative}"
    url = _full_url(fs, path, given)
    try:
        info = many.get(path) or fs.info(path)
    except FileNotFoundError as error:
        raise DataError(
            f"{what} names a file that is gone",
            allowed="versions whose files are still there",
            todo="read a newer one; files of old versions are removed by vacuum or by expiring snapshots",
            where=url,
        ) from error
    if int(info["size"]) != size:
        raise DataError(
            f"the file has {info['size']} bytes, and {size} in {what}",
            allowed="the files that were written",
            todo="restore the file",
            where=url,
        )
    return SourceFile(url, relative, size, content_etag(fs, path, info), partitions)


def _joined(files: list[SourceFile]) -> list[SourceFile]:
    """The files of several URLs as those of one dataset, below the last folder that they have in common."""
    stores = {_store(file.url): file.url for file in files}
    if len(stores) > 1:
        some = list(stores.values())[:2]
        raise DataError(
            f"files of {len(stores)} stores ({', '.join(some)})",
            allowed="files of one store, which have the same storage options",
            todo="make a dataset of each store's files, or copy some of them",
        )
    parts = [file.url.split("/") for file in files]
    common = 0
    while len({tuple(one[: common + 1]) for one in parts}) == 1 and all(len(one) > common + 1 for one in parts):
        common += 1
    joined = {}
    for file, one in zip(files, parts, strict=True):
        if file.url in joined:
            raise DataError("the same file twice", allowed="each file once", todo="check the list", where=file.url)
        path = "/".join(one[common:])
        joined[file.url] = replace(file, path=path, partitions=partitions_of(path))
    return sorted(joined.values(), key=lambda file: file.path)


def _store(url: str) -> str:
    """Scheme and bucket or server of a URL; '' of this machine's files."""
    return "/".join(url.split("/", 3)[:3]) if "://" in url else ""


def infer_format(files: list[SourceFile], url: str) -> str:
    """The one format that the files' endings agree on. Raises DataError where they do not, or say nothing."""
    behind: dict[str, int] = {}  # what follows the first dot of a name, which is the same for most files
    for file in files:
        _, _, name = file.path.rpartition("/")
        last = name if "?" in name else "".join(name.partition(".")[1:])
        behind[last] = behind.get(last, 0) + 1
    endings: dict[str, int] = {}
    for last, count in behind.items():
        endings[_ending(last)] = endings.get(_ending(last), 0) + count
    formats = {format_of(ending) for ending in endings}
    found = formats.pop()
    if found is None or formats:
        shown = ", ".join(f"{count} x '{'.' + ending if ending else 'no ending'}'" for ending, count in endings.items())
        raise DataError(
            f"no single format follows from the names ({shown})",
            allowed=listed((*FORMATS, *TABLES, MANIFEST)),
            todo=_format_to_give(endings),
            where=url,
        )
    return found


def _format_to_give(endings: Mapping[str, int]) -> str:
    """What helps where no format follows: one that is never guessed may be what is meant."""
    if set(endings) == {MANIFEST}:
        return f"give format={MANIFEST!r} if it is one that a Stream's manifest has written"
    if any(format_of(ending) for ending in endings):
        return "give format=, or a glob that fits only the data files"
    return "give format=; format='files' has a row of each file, with its path and its bytes"


def partitions_of(path: str) -> dict[str, str | None]:
    """Hive partition values in the folders of a relative path."""
    pairs = [_unquoted(part, path) for part in path.split("/")[:-1] if "=" in part]
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise DataError(
            f"a partition key twice in {path}",
            allowed="each key once in a path",
            todo="rename one of the folders",
            where=path,
        )
    return {key: None if value == _HIVE_NULL else value for key, value in pairs}


def _unquoted(folder: str, path: str) -> tuple[str, str]:
    """Key and value of a folder."""
    key, _, value = folder.partition("=")
    try:
        return unquote(key, errors="strict"), unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise DataError(
            f"a folder whose name is no UTF-8 once it is unquoted ('{folder}')",
            allowed="percent signs that stand for UTF-8",
            todo="rename the folder",
            where=path,
        ) from None


def _find(fs: Any, root: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """The base folder (the file itself where `root` is one) and every file found: path -> info."""
    is_glob = _MAGIC.search(root.partition("?")[0] if _is_web(root) else root)
    if is_local(fs):
        return local_files.find(root, _braces(root) if is_glob and not os.path.lexists(root) else None)
    fs.invalidate_cache()
    if is_glob and not fs.exists(root):
        base = root[: is_glob.start()].rpartition("/")[0]
        found: dict[str, dict[str, Any]] = {}
        for path, info in sorted(pair for one in _braces(root) for pair in fs.glob(one, detail=True).items()):
            found.update(fs.find(path, detail=True) if info["type"] == "directory" else {path: info})
        return base, _only_files(found)
    info, below = _looked_up(fs, root)
    if info["type"] != "directory":
        return root.rstrip("/"), {root.rstrip("/"): info}
    return root.rstrip("/"), _only_files(below())


def _looked_up(fs: Any, root: str) -> tuple[dict[str, Any], Callable[[], dict[str, dict[str, Any]]]]:
    """What is said of a path, and what gives the files below it.

    S3 knows no folders: to ask whether there is one takes two requests, one after the other, and a third to list it.
    The third is sent beside the first.
    """
    if type(fs).__module__ != "s3fs.core":
        return fs.info(root), lambda: fs.find(root, detail=True)
    pool = ThreadPoolExecutor(1)
    try:
        below = pool.submit(fs.find, root, detail=True)
        return fs.info(root), below.result
    finally:
        pool.shutdown(wait=False)  # of a file nobody waits for what is below it


def _braces(pattern: str) -> list[str]:
    """The globs that a glob with ``{a,b}`` stands for."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if found is None:
        return [pattern]
    head, tail = pattern[: found.start()], pattern[found.end() :]
    return [one for word in found[1].split(",") for one in _braces(f"{head}{word}{tail}")]


def _only_files(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {path: info for path, info in found.items() if info["type"] != "directory" and not path.endswith("/")}


def _relative(path: str, base: str) -> str:
    return path.rpartition("/")[2] if path == base else path[len(base) :].lstrip("/")


def _hidden(relative: str) -> bool:
    parts = relative.split("/")
    return any(local_files.is_hidden(part) for part in parts)


def _ending(path: str) -> str:
    parts = file_name(path).lower().split(".")
    if len(parts) > 2 and format_of(parts[-1]) is None and (compression_of(path) or refused_compression(path)):
        parts.pop()
    return parts[-1] if len(parts) > 1 else ""


def _full_url(fs: Any, path: str, given: str) -> str:
    """The URL of a file below a given one: on the same host, which some file systems leave out of their paths."""
    url = str(fs.unstrip_protocol(path))
    if url.startswith("file:///"):
        return url.removeprefix("file://")
    scheme, hostless, rest = url.partition(":///")
    if hostless and type(fs)._get_kwargs_from_urls(given).get("host"):
        return f"{scheme}://{given.partition('://')[2].partition('/')[0]}/{rest}"
    return url


def _nothing(url: str, found: dict[str, Any]) -> DataError:
    if found:
        return DataError(
            f"only hidden files ({listed(sorted(found)[:3])})",
            allowed="at least one file whose name begins with neither '.' nor '_'",
            todo="rename the files, or give the URL of one of them",
            where=url,
        )
    return DataError("no files", allowed="at least one file", todo="check the URL or the glob", where=_shown(url))


def _is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _shown(url: str) -> str:
    """A URL in an error: without its query, which may be a signature."""
    return url.partition("?")[0] if _is_web(url) else url


@contextlib.contextmanager
def _reached(url: str) -> Iterator[None]:
    """Turns whatever a file system raises into a DataError that names the URL and the cause."""
    query = url.partition("?")[2] if _is_web(url) else ""
    try:
        yield
    except RunnerError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        if (refused := _refused(error)) is not None:
            raise _away(refused, url, query) from error
        raise DataError(
            "no such file or folder",
            allowed="a file, a folder or a glob that exists",
            todo="check the URL",
            where=_shown(url),
        ) from error
    except PermissionError as error:
        raise DataError(
            f"no permission to read it ({error})",
            allowed="data that this user may read",
            todo="check its owner, or the credentials in the environment",
            where=_shown(url),
        ) from error
    except Exception as error:  # each file system has its own kinds
        raise _away(error, url, query) from error


def _refused(error: OSError) -> BaseException | None:
    """What kept a file system from looking, where it says only that the file is absent: that of HTTP does so also
    where nobody answers, or the answer is no.
    """
    cause = error.__cause__
    if getattr(cause, "status", 404) not in (404, 410):
        return cause
    absent = isinstance(cause, FileNotFoundError | NotADirectoryError)
    return cause if isinstance(cause, OSError) and not absent else None


def _away(error: BaseException, url: str, query: str) -> DataError:
    said = str(error).replace(f"?{query}", "") if query else str(error)
    return DataError(
        f"it cannot be reached ({type(error).__name__}: {said})",
        allowed="a path, or a URL whose scheme fsspec knows and whose package is installed",
        todo="check the URL, the network, the credentials and the storage options",
        where=_shown(url),
    )
