"""A folder on any fsspec URL that can really create a file only if it is absent.

Everything that must never be lost or half-written goes through here. Two guarantees, and nothing else:

- ``create`` makes a whole object or none, and of two writers exactly one wins.
- ``put`` replaces a whole object at once.

fsspec's own ``mode="create"`` checks first and writes afterwards on most file systems, which races. So each scheme
is listed here with the mechanism that makes it real, and any other scheme is refused.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import logging
import os
import random
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from runner.errors import StoreAway, StoreBroken, StoreError, StoreRefused, listed
from runner.store import copied, credentials
from runner.untrusted.names import KEY, PART, Kind
from runner.untrusted.shapes import broken
from runner.untrusted.skipped import skipped
from runner.untrusted.visible import one_line

LOCAL, S3 = "file", "s3"
_SCHEMES = {"": LOCAL, "file": LOCAL, "local": LOCAL, "s3": S3, "s3a": S3}
_TEMPORARY = ".tmp-"
#: What `Store._temporary` names a file while it is written. Users have files of their own that begin like that.
_IS_TEMPORARY = re.compile(re.escape(_TEMPORARY) + r"[0-9a-f]{12}-").match
#: Bytes that an object may have which is read into memory.
LARGEST_BYTES = 64 << 20
_AT_ONCE = 1 << 20
#: Seconds for which the processes of a run go on asking a store that does not answer, and between two tries.
PATIENCE_S, LONGEST_PAUSE_S = 600.0, 10.0
#: What an object store, or the disk here, says of a request that will never be right.
_FINAL = (
    errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.ENAMETOOLONG, errno.EMSGSIZE,
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOTDIR,
)  # fmt: skip
#: What a disk says of a folder, a socket or a ring of links in the place of a file.
_NO_FILE = (errno.EISDIR, errno.ENXIO, errno.ELOOP)

Method = TypeVar("Method", bound=Callable[..., Any])


def _patient(method: Method) -> Method:
    """The same, tried again for the store's `patience_s` while it does not answer."""

    @functools.wraps(method)
    def patiently(store: Store, *arguments: Any, **named: Any) -> Any:
        deadline, pause = time.monotonic() + store.patience_s, 0.5
        while True:
            try:
                return method(store, *arguments, **named)
            except StoreAway as error:
                if time.monotonic() + pause > deadline:
                    raise
                print(f"runner: trying again: {one_line(f'{error.where}: {error.found}')}", file=sys.stderr, flush=True)
            time.sleep(pause * random.uniform(0.5, 1.0))  # nobody tells when; not all ranks at the same moment
            pause = min(2 * pause, LONGEST_PAUSE_S)

    return patiently  # type: ignore[return-value]


class Store:
    """A folder at ``url``; keys are relative paths with ``/``.

    Args:
        url: a local path, ``file://`` or ``s3://bucket/prefix``.
        options: fsspec storage options (endpoint, profile, ...). Credentials are better left to the environment.
        patience_s: seconds for which a request is tried again that an object store does not answer. A person at a
            terminal wants to know at once; a process of a run has time.

    Raises:
        StoreRefused: the scheme cannot create a file only if it is absent, or its package is missing.
    """

    def __init__(self, url: str, options: dict[str, Any] | None = None, patience_s: float = 0.0) -> None:
        self.patience_s = patience_s
        self.url = url.rstrip("/") if len(url) > 1 else url
        self.options = dict(options or {})
        scheme = url.split("://", 1)[0] if "://" in url else ""
        if scheme not in _SCHEMES:
            raise StoreRefused(
                f"the scheme '{scheme}://'",
                allowed=f"{listed(s + '://' for s in ('file', 's3'))} or a local path",
                todo="choose a store that can create a file only if it is absent; data may lie on any fsspec URL",
                where=f"store {url}",
            )
        self.kind = _SCHEMES[scheme]
        if self.kind != LOCAL and not url.partition("://")[2].partition("/")[0]:
            raise StoreRefused("no bucket", allowed="s3://bucket/prefix", todo="name it", where=f"store {url}")
        if self.kind == LOCAL:
            self.root = os.path.abspath(os.path.expanduser(self.url.split("://", 1)[-1]))
            self.url = self.root
        else:
            self.root = self.url.split("://", 1)[1]
        self._fs: Any = None

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def __getstate__(self) -> dict[str, Any]:
        kept = ("url", "options", "kind", "root", "patience_s")
        return {**{name: getattr(self, name) for name in kept}, "_fs": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def fs(self) -> Any:
        """The fsspec file system, made when first used."""
        if self._fs is None:
            import fsspec

            options = credentials.resolved(self.options)
            if self.kind == S3:
                options.setdefault("use_listings_cache", False)  # another process writes beside us
                logging.getLogger("aiobotocore").setLevel(logging.WARNING)  # it tells where credentials come from
            self._fs = fsspec.filesystem(self.kind, **options)
        return self._fs

    def path(self, key: str = "") -> str:
        """The full path of ``key`` inside the file system. Raises InputError for what is no key (see `names.KEY`)."""
        return f"{self.root}/{KEY(key)}" if key else self.root

    def sub(self, prefix: str) -> Store:
        """The store whose root is ``prefix`` of this one. Raises InputError for what is no key."""
        KEY(prefix)
        child = Store.__new__(Store)
        child.__setstate__(self.__getstate__())
        child.url, child.root, child._fs = f"{self.url}/{prefix}", f"{self.root}/{prefix}", self._fs
        return child

    # -- writing -------------------------------------------------------------------------------------------------

    @_patient
    def create(self, key: str, data: bytes) -> bool:
        """Make ``key`` with ``data`` if it is absent.

        Returns:
            True if this call made it, False if it was there already. Readers see all of ``data`` or no object.
        """
        with _explained(self, key):
            return self._create_local(key, data) if self.kind == LOCAL else self._create_s3(key, data)

    @_patient
    def put(self, key: str, data: bytes) -> None:
        """Make or replace ``key`` in one move."""
        with _explained(self, key):
            if self.kind == LOCAL:
                temporary = self._write_beside(key, data)
                os.replace(temporary, self.path(key))
            else:
                self.fs.pipe_file(self.path(KEY(key)), data)

    @_patient
    def put_file(self, key: str, local_path: str | os.PathLike[str]) -> None:
        """Publish a finished local file under ``key`` in one move."""
        with _explained(self, key):
            if self.kind != LOCAL:
                self.fs.put_file(os.fspath(local_path), self.path(KEY(key)))
                return
            temporary = self._temporary(key)
            try:
                shutil.copyfile(local_path, temporary)
                os.replace(temporary, self.path(key))
            except BaseException:
                _unlink(temporary)
                raise

    @_patient
    def copy(self, source: str, key: str) -> None:
        """Make ``key`` with the content of ``source``, which is not read here: a hard link, or a copy that the object
        store makes. Raises FileNotFoundError.
        """
        with _explained(self, key):
            if self.kind == LOCAL:
                self._link(source, key)
            else:
                self.fs.cp_file(self.path(source), self.path(key))

    def point(self, key: str, target: str) -> None:
        """Make ``key`` a link to ``target``, a folder beside it, in one move; "" removes it. Only on a disk that has
        links: elsewhere nothing happens.
        """
        if not target:
            with _explained(self, key), contextlib.suppress(FileNotFoundError):
                self._check_way(key)
                os.unlink(self.path(key))
            return
        KEY(target)
        with _explained(self, key):
            temporary = self._temporary(key)
            try:
                os.symlink(target, temporary)
            except OSError as error:
                if error.errno not in copied.NO_LINKS:
                    raise
                return
            os.replace(temporary, self.path(key))

    @_patient
    def delete(self, key: str) -> None:
        """Remove ``key``; nothing happens if it is absent."""
        with _explained(self, key), contextlib.suppress(FileNotFoundError):
            self._check_way(key)
            self.fs.rm_file(self.path(key))

    @_patient
    def delete_tree(self, prefix: str) -> None:
        """Remove everything below ``prefix``; of a link the link alone."""
        with _explained(self, prefix), contextlib.suppress(FileNotFoundError):
            self._check_way(prefix)
            if self.kind == LOCAL and os.path.islink(self.path(prefix)):
                os.unlink(self.path(prefix))
                return
            self.fs.rm(self.path(prefix), recursive=True)

    # -- reading -------------------------------------------------------------------------------------------------

    @_patient
    def get(self, key: str, most: int | None = LARGEST_BYTES) -> bytes:
        """The content of ``key``.

        Args:
            most: bytes that it may have; None: any number.

        Raises:
            FileNotFoundError: there is none such.
            StoreBroken: it is larger, which is seen before it is read, or no plain file.
        """
        with _explained(self, key):
            if self.kind == LOCAL:
                with self._files_hold_nothing(), open(self.path(key), "rb", opener=_open_at_once) as file:
                    size = self._size_of(key, os.fstat(file.fileno()), most)
                    data = file.read() if most is None else file.read(size + 1)
                    if most is not None and len(data) > size:  # as files of /proc are
                        raise broken(self.path(key), "larger than it says")
                    return data
            return self._get_s3(key, most)

    @_patient
    def get_file(self, key: str, local_path: str | os.PathLike[str], most: int | None = None) -> None:
        """Copy ``key`` to a local file, whole or not at all.

        Args:
            most: bytes that it may have; None: any number.

        Raises:
            FileNotFoundError: there is no such object.
            StoreBroken: it is larger, which is seen before it is copied, or no plain file.
            StoreRefused: the store, or the disk here, refuses.
        """
        part = f"{os.fspath(local_path)}.{secrets.token_hex(4)}"
        try:
            with copied.explained(Path(local_path), but=FileNotFoundError):
                with _explained(self, key, part):
                    self._copy_out(key, part, most)
                os.replace(part, local_path)
        finally:
            _unlink(part)

    @_patient
    def exists(self, key: str) -> bool:
        """Whether ``key`` is an object or a folder."""
        with _explained(self, key):
            return os.path.exists(self.path(key)) if self.kind == LOCAL else bool(self.fs.exists(self.path(key)))

    @_patient
    def list(self, prefix: str = "", begins: str = "") -> list[str]:
        """The names directly below ``prefix``, sorted; an absent folder has none, and what cannot be one is left out
        (see `names.PART`).

        Args:
            begins: only those that begin so. An object store is asked for these alone.
        """
        with _explained(self, prefix):
            if self.kind != LOCAL:
                return sorted(
                    self._kept(prefix, (f.key for f in self._listed_s3(prefix, begins, folders=True)), begins)
                )
            try:
                with self._files_hold_nothing():
                    return sorted(self._kept(prefix, os.listdir(self.path(prefix)), begins))
            except FileNotFoundError:
                return []

    def _kept(self, prefix: str, names: Iterable[str], begins: str) -> Iterator[str]:
        for name in names:
            if name.startswith(begins) and name and not _IS_TEMPORARY(name) and self._is_name(PART, prefix, name):
                yield name

    @_patient
    def objects(self, prefix: str) -> tuple[Found, ...]:
        """Of an object store: what lies directly below ``prefix``, with bytes and tag of each, by one listing."""
        with _explained(self, prefix):
            return tuple(self._listed_s3(prefix, "", folders=False))

    @_patient
    def get_all(self, wanted: Mapping[str, int]) -> dict[str, bytes]:
        """Of an object store: the content of many objects, asked for at once. One that is not there, is larger than it
        may be or was cut short is left out.

        Args:
            wanted: key -> bytes that it may have.
        """
        from fsspec.asyn import sync

        with _explained(self, ""):
            paths = {self.path(key): most for key, most in wanted.items()}
            found = sync(self.fs.loop, _read_all, self.fs, paths)
        return {key: data for key, data in zip(wanted, found, strict=True) if isinstance(data, bytes)}

    @_patient
    def find(self, prefix: str = "", *, temporary: bool = False) -> tuple[Found, ...]:
        """Every file below ``prefix``, sorted by key; links are not followed, and what has no key is left out.

        Args:
            temporary: only those that are being written, or that a killed process was writing, instead of the others;
                of these also links to folders.
        """
        with _explained(self, prefix):
            found = self._find_local(prefix, temporary) if self.kind == LOCAL else self._find_s3(prefix)
            wanted = [f for f in found if bool(_IS_TEMPORARY(f.key.rpartition("/")[2])) is temporary]
            wanted = [f for f in wanted if not f.key or self._is_name(KEY, prefix, f.key)]
        return tuple(sorted(wanted, key=lambda f: f.key))

    def _is_name(self, kind: Kind, prefix: str, name: str) -> bool:
        fits = kind.fits(name)
        if not fits and prefix:  # the root may be a folder of the user's, with names of any kind
            skipped(f"{self.url}/{prefix}/{name}", "no name that runner gives")
        return fits

    # -- how each scheme does it ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _files_hold_nothing(self) -> Iterator[None]:
        """Below a file (a definition in `datasets/`, where the store is the project's folder) nothing is, as on S3."""
        try:
            yield
        except NotADirectoryError as error:
            if not os.path.isdir(self.root):
                raise
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), error.filename) from None

    def _check_way(self, key: str) -> None:
        """What is written or removed lies below the root: on a disk that several users write, a folder on the way may
        be somebody's link to elsewhere. One's own links, and root's, are followed: they are wanted.
        """
        parts = key.split("/")[:-1] if self.kind == LOCAL else []
        for number in range(1, len(parts) + 1):
            path = self.path("/".join(parts[:number]))
            try:
                found = os.lstat(path)
            except FileNotFoundError:
                return
            if stat.S_ISLNK(found.st_mode) and found.st_uid not in (0, os.geteuid()):
                raise StoreRefused(
                    f"{path} is a link that belongs to user {found.st_uid}", allowed="folders, and links of one's own",
                    todo="remove it: what is written or removed there would lie outside of the store",
                    where=f"store {self.url}",
                )  # fmt: skip

    def _size_of(self, key: str, found: os.stat_result, most: int | None) -> int:
        if not stat.S_ISREG(found.st_mode):
            raise broken(self.path(key), "no plain file")
        if most is not None and found.st_size > most:
            raise self._too_large(key, found.st_size, most)
        return found.st_size

    def _too_large(self, key: str, size: int, most: int) -> StoreBroken:
        return broken(self.path(key), f"{size:,} bytes, and at most {most:,} are read")

    def _get_s3(self, key: str, most: int | None) -> bytes:
        from fsspec.asyn import sync

        path = self.path(key)
        if most is not None:
            data: bytes | int | None = sync(self.fs.loop, _read_within, self.fs, path, most)
            if isinstance(data, int):
                raise self._too_large(key, data, most)
            if data is not None:
                return data
        # Without a size to cut into parts: one request, also for what is absent.
        return bytes(self.fs.cat_file(path, max_concurrency=1))

    def _copy_out(self, key: str, part: str, most: int | None) -> None:
        if self.kind == S3:
            size = self.fs.info(self.path(key))["size"] if most is not None else 0
            if most is not None and size > most:
                raise self._too_large(key, size, most)
            self.fs.get_file(self.path(key), part)
            return
        with open(self.path(key), "rb", opener=_open_at_once) as file, open(part, "xb") as out:
            left = self._size_of(key, os.fstat(file.fileno()), most)
            while left and (data := file.read(min(left, _AT_ONCE))):
                left -= out.write(data)

    def _temporary(self, key: str) -> str:
        self._check_way(KEY(key))
        folder, name = os.path.split(self.path(key))
        os.makedirs(folder, exist_ok=True)
        return os.path.join(folder, f"{_TEMPORARY}{secrets.token_hex(6)}-{name}"[:250])

    def _write_beside(self, key: str, data: bytes) -> str:
        temporary = self._temporary(key)
        try:
            with open(temporary, "xb") as file:
                file.write(data)
        except BaseException:
            _unlink(temporary)
            raise
        return temporary

    def _find_local(self, prefix: str, links: bool) -> Iterator[Found]:
        top = self.path(prefix)
        for path in [top] if os.path.isfile(top) else _walk(top, links):
            with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                found = os.lstat(path)
                yield Found(path[len(top) :].removeprefix("/"), found.st_size, found.st_mtime)

    def _listed_s3(self, prefix: str, begins: str, folders: bool) -> Iterator[Found]:
        """What lies directly below, page by page. (What fsspec lists of an absent folder is all that is beside it.)"""
        bucket, _, top = self.path(prefix).partition("/")
        request: dict[str, Any] = {"Bucket": bucket, "Prefix": f"{top}/{begins}" if top else begins, "Delimiter": "/"}
        cut = len(top) + 1 if top else 0
        while True:
            page = self.fs.call_s3("list_objects_v2", **request)
            for each in page.get("Contents", ()):
                at = each["LastModified"].timestamp()
                yield Found(each["Key"][cut:], int(each["Size"]), at, each.get("ETag", ""))
            if folders:
                yield from (Found(each["Prefix"][cut:-1], 0, 0.0) for each in page.get("CommonPrefixes", ()))
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def _find_s3(self, prefix: str) -> Iterator[Found]:
        top = self.path(prefix)
        for path, info in self.fs.find(top, detail=True, refresh=True).items():
            yield Found(path[len(top) :].removeprefix("/"), int(info["size"]), info["LastModified"].timestamp())

    def _link(self, source: str, key: str) -> None:
        temporary = self._temporary(key)
        try:
            try:
                os.link(self.path(source), temporary)
            except OSError as error:
                if error.errno not in copied.NO_LINKS:
                    raise
                shutil.copyfile(self.path(source), temporary)
            os.replace(temporary, self.path(key))
        finally:
            _unlink(temporary)  # where both are one file already, nothing was moved

    def _create_local(self, key: str, data: bytes) -> bool:
        """link(2) makes the name appear with its whole content, and fails if the name is taken."""
        if os.path.exists(self.path(KEY(key))):
            return False
        temporary = self._write_beside(key, data)
        try:
            os.link(temporary, self.path(key))
        except FileExistsError:
            return False
        finally:
            _unlink(temporary)
        return True

    def _create_s3(self, key: str, data: bytes) -> bool:
        """PUT with ``If-None-Match: *``, which the server refuses with 412 where the key exists.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        bucket, _, name = self.path(KEY(key)).partition("/")
        try:
            self.fs.call_s3("put_object", Bucket=bucket, Key=name, Body=data, IfNoneMatch="*")
        except FileExistsError:
            return False
        except OSError as error:
            if _code(error) in _TAKEN:
                return False
            raise
        return True


#: There already; another conditional write of the same key is under way.
_TAKEN = ("PreconditionFailed", "412", "ConditionalRequestConflict", "409")


def _code(error: BaseException) -> str:
    """The word by which S3 refused a request; s3fs keeps the answer as the cause of its own error."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def sha256_of(path: str | os.PathLike[str], most: int) -> str:
    """The hash of a plain file's content.

    Args:
        most: bytes that it may have.

    Raises:
        FileNotFoundError: there is none.
        StoreBroken: it is larger, which is seen before it is read, or no plain file, for which nobody waits.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise broken(os.fspath(path), "no plain file")
            if found.st_size > most:
                raise broken(os.fspath(path), f"{found.st_size:,} bytes, and {most:,} were published")
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        if error.errno in _NO_FILE:
            raise broken(os.fspath(path), "no plain file") from error
        raise


def _walk(top: str, links: bool) -> Iterator[str]:
    """Every file below a folder; with `links` also the links to folders."""
    for at, folders, names in os.walk(top):
        linked = [name for name in folders if links and os.path.islink(os.path.join(at, name))]
        yield from (os.path.join(at, name) for name in (*names, *linked))


def _open_at_once(path: str, flags: int) -> int:
    """A pipe without a writer must not hold back who looks at what it is."""
    return os.open(path, flags | os.O_NONBLOCK)


async def _read_all(fs: Any, paths: Mapping[str, int]) -> list[bytes | int | None]:
    """Of each object what `_read_within` gives; None of one that is not there."""
    import asyncio

    answers = await asyncio.gather(
        *(_read_within(fs, path, most) for path, most in paths.items()), return_exceptions=True
    )
    found: list[bytes | int | None] = []
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, FileNotFoundError):
            raise answer
        found.append(None if isinstance(answer, BaseException) else answer)
    return found


async def _read_within(fs: Any, path: str, most: int) -> bytes | int | None:
    """An object's content by one request; its size if that is more than `most`; None where reading was cut short."""
    from aiohttp import ClientError
    from botocore.exceptions import HTTPClientError

    bucket, _, name = path.partition("/")
    answer = await fs._call_s3("get_object", Bucket=bucket, Key=name)
    try:
        size = int(answer["ContentLength"])
        return size if size > most else bytes(await answer["Body"].read())
    except (ClientError, HTTPClientError):
        return None
    finally:
        answer["Body"].close()


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _is_away(error: BaseException) -> bool:
    """Whether an object store did not answer, or said that it cannot now."""
    if type(error).__module__.partition(".")[0] in ("aiohttp", "urllib3"):
        return True
    from botocore import exceptions

    if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError | ConnectionError | TimeoutError):
        return True
    refused = FileNotFoundError | FileExistsError | PermissionError
    return isinstance(error, OSError) and not isinstance(error, refused) and error.errno not in _FINAL


def _is_of(error: OSError, part: str) -> bool:
    """Whether it is about the local file that is written while an object is read."""
    return error.filename == part or error.errno in copied.NO_ROOM


class _explained(contextlib.AbstractContextManager[None]):
    """Turns the operating system's refusals into errors that say what to do.

    Args:
        part: a local file that is written; what is refused of that is no word of the store's, and stays as it is.
    """

    def __init__(self, store: Store, key: str, part: str = "") -> None:
        self._store, self._key, self._part = store, key, part

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._part and isinstance(error, OSError) and _is_of(error, self._part):
            return
        where = f"store {self._store.url}"
        if error is not None and self._store.kind != LOCAL and _is_away(error):
            raise StoreAway(
                f"{type(error).__name__}: {' '.join(str(error).split())}", allowed="an S3 that answers",
                todo="see whether it is up and AWS_ENDPOINT_URL leads to it (not set: Amazon's), and try again",
                where=where,
            ) from error  # fmt: skip
        if error is not None and type(error).__module__.startswith(("botocore.", "aiobotocore.")):
            raise StoreRefused(
                " ".join(str(error).split()), allowed="an S3 that answers, and credentials for it",
                todo="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or a profile), and AWS_ENDPOINT_URL where it is "
                "not Amazon's",
                where=where,
            ) from error  # fmt: skip
        if not isinstance(error, OSError) or isinstance(error, FileNotFoundError):
            return
        if error.errno in _NO_FILE and self._key:
            raise broken(self._store.path(self._key), "no plain file") from error
        if isinstance(error, PermissionError):
            raise StoreRefused(
                f"no permission at {self._store.path(self._key)}",
                allowed="a store that this user may read and write",
                todo="check the owner of the folder or the credentials, or choose another with --store or RUNNER_STORE",
                where=where,
            ) from error
        if error.errno == errno.EFBIG:
            raise StoreRefused(
                f"{self._store.path(self._key)} is larger than a file may be here",
                allowed="files as large as the run's code and checkpoints",
                todo="raise the limit (`ulimit -f`), or choose another store with --store or RUNNER_STORE", where=where,
            ) from error  # fmt: skip
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreRefused(
                f"no space left while writing {self._store.path(self._key)}",
                allowed="a store with room for the run",
                todo="free space, or choose another store with --store or RUNNER_STORE; then `runner resume`",
                where=where,
            ) from error
        if error.errno in (errno.EROFS, errno.ENOTDIR):
            raise StoreRefused(
                f"{os.strerror(error.errno or 0).lower()} at {self._store.path(self._key)}",
                allowed="a folder that can be written",
                todo="choose another store with --store or RUNNER_STORE",
                where=where,
            ) from error
        raise StoreError(
            f"{type(error).__name__} at {self._store.path(self._key)}: {' '.join(str(error).split())}",
            allowed="a store that answers", todo="see whether it is up, and try again", where=where,
        ) from error  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A file: its key below what was asked for ("" for that itself), its bytes, and when it was written (in seconds
    since 1970); in an object store also its tag, which is the MD5 of its content in most of them.
    """

    key: str
    bytes: int
    at: float
    tag: str = ""
