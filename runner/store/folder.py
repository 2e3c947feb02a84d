"""A store in a folder: a file is written beside its place and appears there whole, by a link or a move."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator

from runner.errors import StoreRefused
from runner.store import whole_copy
from runner.store.place import Found, Place
from runner.untrusted.names import KEY
from runner.untrusted.shapes import broken

_TEMPORARY = ".tmp-"
#: Whether a file is one that is being written. Users have files of their own that begin like that.
is_temporary = re.compile(re.escape(_TEMPORARY) + r"[0-9a-f]{12}-").match
_AT_ONCE = 1 << 20
#: What a disk says of a folder, a socket or a ring of links in the place of a file.
NO_FILE = (errno.EISDIR, errno.ENXIO, errno.ELOOP)


class Folder(Place):
    """Files on a disk."""

    def create(self, key: str, data: bytes) -> bool:
        """link(2) makes the name appear with its whole content, and fails if the name is taken."""
        if os.path.exists(self.path(KEY(key))):
            return False
        temporary = self._write_beside(key, data)
        try:
            os.link(temporary, self.path(key))
        except FileExistsError:
            return False
        finally:
            unlink(temporary)
        return True

    def put(self, key: str, data: bytes) -> None:
        """By a move."""
        os.replace(self._write_beside(key, data), self.path(key))

    def put_file(self, key: str, local_path: str | os.PathLike[str]) -> None:
        """By a copy, and a move."""
        temporary = self._temporary(key)
        try:
            shutil.copyfile(local_path, temporary)
            os.replace(temporary, self.path(key))
        except BaseException:
            unlink(temporary)
            raise

    def take_file(self, key: str, local_path: str | os.PathLike[str]) -> None:
        """By a hard link, where both are on one disk that has such."""
        self._link(os.fspath(local_path), key, (*whole_copy.NO_LINKS, errno.EXDEV))

    def copy(self, source: str, key: str) -> None:
        """By a hard link, where the disk has such."""
        self._link(self.path(source), key, whole_copy.NO_LINKS)

    def _link(self, path: str, key: str, no_links: tuple[int, ...]) -> None:
        """The file at a path, or where a link fails in one of these ways a copy of it, as `key`."""
        temporary = self._temporary(key)
        try:
            try:
                os.link(path, temporary)
            except OSError as error:
                if error.errno not in no_links:
                    raise
                shutil.copyfile(path, temporary)
            os.replace(temporary, self.path(key))
        finally:
            unlink(temporary)  # where both are one file already, nothing was moved

    def point(self, key: str, target: str) -> None:
        """Where the disk has links; elsewhere nothing happens."""
        if not target:
            with contextlib.suppress(FileNotFoundError):
                self._check_way(key)
                os.unlink(self.path(key))
            return
        temporary = self._temporary(key)
        try:
            os.symlink(KEY(target), temporary)
        except OSError as error:
            if error.errno not in whole_copy.NO_LINKS:
                raise
            return
        os.replace(temporary, self.path(key))

    def delete(self, key: str) -> None:
        """Of a link the link alone."""
        self._check_way(key)
        os.unlink(self.path(key))

    def delete_tree(self, prefix: str) -> None:
        """Of a link the link alone."""
        self._check_way(prefix)
        path = self.path(prefix)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)

    def get(self, key: str, most: int | None) -> bytes:
        """Nobody waits for a pipe without a writer."""
        with self._files_hold_nothing(), open(self.path(key), "rb", opener=_open_at_once) as file:
            size = self._size_of(key, os.fstat(file.fileno()), most)
            data = file.read() if most is None else file.read(size + 1)
            if most is not None and len(data) > size:  # as files of /proc are
                raise broken(self.path(key), "larger than it says")
            return data

    def copy_out(self, key: str, path: str, most: int | None) -> None:
        """No more than it had when it was opened."""
        with open(self.path(key), "rb", opener=_open_at_once) as file, open(path, "xb") as out:
            left = self._size_of(key, os.fstat(file.fileno()), most)
            while left and (data := file.read(min(left, _AT_ONCE))):
                left -= out.write(data)

    def exists(self, key: str) -> bool:
        """Also of what a link leads to."""
        return os.path.exists(self.path(key))

    def names(self, prefix: str, begins: str) -> Iterable[str]:
        """By one look at the folder."""
        with self._files_hold_nothing():
            return [name for name in os.listdir(self.path(prefix)) if name.startswith(begins)]

    def find(self, prefix: str, links: bool) -> Iterator[Found]:
        """Links are not followed."""
        top = self.path(prefix)
        for path in [top] if os.path.isfile(top) else _walk(top, links):
            with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                found = os.lstat(path)
                yield Found(path[len(top) :].removeprefix("/"), found.st_size, found.st_mtime)

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
        parts = key.split("/")[:-1]
        for number in range(1, len(parts) + 1):
            path = self.path("/".join(parts[:number]))
            try:
                found = os.lstat(path)
            except FileNotFoundError:
                return
            if stat.S_ISLNK(found.st_mode) and found.st_uid not in (0, os.geteuid()):
                raise StoreRefused(
                    f"{path} is a link that belongs to user {found.st_uid}",
                    allowed="folders, and links of one's own",
                    todo="remove it: what is written or removed there would lie outside of the store",
                    where=f"store {self.root}",
                )

    def _size_of(self, key: str, found: os.stat_result, most: int | None) -> int:
        if not stat.S_ISREG(found.st_mode):
            raise broken(self.path(key), "no plain file")
        if most is not None and found.st_size > most:
            raise self.too_large(key, found.st_size, most)
        return found.st_size

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
            unlink(temporary)
            raise
        return temporary


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
        if error.errno in NO_FILE:
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


def unlink(path: str) -> None:
    """Remove a file, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
