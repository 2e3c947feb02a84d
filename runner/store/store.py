"""A folder on any fsspec URL that can really create a file only if it is absent.

Everything that must never be lost or half-written goes through here. Two guarantees, and nothing else:

- ``create`` makes a whole object or none, and of two writers exactly one wins.
- ``put`` replaces a whole object at once.

fsspec's own ``mode="create"`` checks first and writes afterwards on most file systems, which races. So each scheme
is listed here with the mechanism that makes it real, and any other scheme is refused.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from runner.errors import StoreRefused, listed
from runner.store import buckets, credentials, whole_copy
from runner.store.folder import Folder, is_temporary, unlink
from runner.store.place import AZURE, GCS, LOCAL, S3, Found, Place
from runner.store.refusals import explained
from runner.store.retry import Retry
from runner.untrusted.names import KEY, PART, Kind
from runner.untrusted.skipped import skipped

if TYPE_CHECKING:
    from runner.store.bucket import Bucket

_SCHEMES = {
    "": LOCAL, "file": LOCAL, "local": LOCAL, "s3": S3, "s3a": S3, "gs": GCS, "gcs": GCS,
    "az": AZURE, "abfs": AZURE, "abfss": AZURE,
}  # fmt: skip
#: The schemes that errors name, and what is said where the bucket is missing.
_SHOWN = ("file", "s3", "gs", "az")
#: Bytes that an object may have which is read into memory.
LARGEST_BYTES = 64 << 20

Method = TypeVar("Method", bound=Callable[..., Any])


def _patient(method: Method) -> Method:
    """The same, tried again for the store's `patience_s` while it does not answer."""

    @functools.wraps(method)
    def patiently(store: Store, *arguments: Any, **named: Any) -> Any:
        return Retry(store.patience_s)(lambda: method(store, *arguments, **named))

    return patiently  # type: ignore[return-value]


class Store:
    """A folder at ``url``; keys are relative paths with ``/``.

    Args:
        url: a local path, ``file://``, ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``az://container/prefix``.
        options: fsspec storage options (endpoint, profile, ...). Credentials are better left to the environment.
        patience_s: seconds for which a request is tried again that the store does not answer. A person at a terminal
            wants to know at once; a process of a run has time.

    Raises:
        StoreRefused: the scheme cannot create a file only if it is absent, or the URL names no bucket.
    """

    def __init__(self, url: str, options: dict[str, Any] | None = None, patience_s: float = 0.0) -> None:
        self.patience_s = patience_s
        self.url = url.rstrip("/") if len(url) > 1 else url
        self.options = dict(options or {})
        scheme = url.split("://", 1)[0] if "://" in url else ""
        if scheme not in _SCHEMES:
            raise StoreRefused(
                f"the scheme '{scheme}://'",
                allowed=f"{listed(s + '://' for s in _SHOWN)} or a local path",
                todo="choose a store that can create a file only if it is absent; data may lie on any fsspec URL",
                where=f"store {url}",
            )
        self.kind = _SCHEMES[scheme]
        if self.kind != LOCAL:
            _check_bucket(url, scheme)
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
        """The fsspec file system of an object store, made when first used.

        Raises:
            InputError: an option names a variable that is not there.
            StoreRefused: the credentials are none.
        """
        if self._fs is None:
            with explained(self, ""):
                self._fs = buckets.connect(self.kind, credentials.resolved(self.options))
        return self._fs

    @property
    def _place(self) -> Place:
        return Folder(self.root) if self.kind == LOCAL else self._bucket

    @property
    def _bucket(self) -> Bucket:
        return buckets.bucket(self.kind, self.root, self.fs)

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
        with explained(self, key, of_bucket=True):
            return self._place.create(key, data)

    @_patient
    def put(self, key: str, data: bytes) -> None:
        """Make or replace ``key`` in one move."""
        with explained(self, key, of_bucket=True):
            self._place.put(key, data)

    @_patient
    def put_file(self, key: str, local_path: str | os.PathLike[str], *, take: bool = False) -> None:
        """Publish a finished local file under ``key`` in one move.

        Args:
            take: nobody changes the file any more: on the store's own disk it may become the object, without a copy.
        """
        with explained(self, key):
            if take:
                self._place.take_file(key, local_path)
            else:
                self._place.put_file(key, local_path)

    @_patient
    def copy(self, source: str, key: str) -> None:
        """Make ``key`` with the content of ``source``, which is not read here: a hard link, or a copy that the object
        store makes. Raises FileNotFoundError.
        """
        with explained(self, key):
            self._place.copy(source, key)

    def point(self, key: str, target: str) -> None:
        """Make ``key`` a link to ``target``, a folder beside it, in one move; "" removes it. Only on a disk that has
        links: elsewhere nothing happens.
        """
        with explained(self, key):
            self._place.point(key, target)

    @_patient
    def delete(self, key: str) -> None:
        """Remove ``key``; nothing happens if it is absent."""
        with explained(self, key), contextlib.suppress(FileNotFoundError):
            self._place.delete(key)

    @_patient
    def delete_tree(self, prefix: str) -> None:
        """Remove everything below ``prefix``; of a link the link alone."""
        with explained(self, prefix), contextlib.suppress(FileNotFoundError):
            self._place.delete_tree(prefix)

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
        with explained(self, key):
            return self._place.get(key, most)

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
            with whole_copy.explained(Path(local_path), but=FileNotFoundError):
                with explained(self, key, part):
                    self._place.copy_out(key, part, most)
                os.replace(part, local_path)
        finally:
            unlink(part)

    @_patient
    def exists(self, key: str) -> bool:
        """Whether ``key`` is an object or a folder."""
        with explained(self, key):
            return self._place.exists(key)

    @_patient
    def list(self, prefix: str = "", begins: str = "") -> list[str]:
        """The names directly below ``prefix``, sorted; an absent folder has none, and what cannot be one is left out
        (see `names.PART`).

        Args:
            begins: only those that begin so. An object store is asked for these alone.
        """
        with explained(self, prefix, of_bucket=True):
            try:
                names = self._place.names(prefix, begins)
                return sorted(n for n in names if n and not is_temporary(n) and self._is_name(PART, prefix, n))
            except FileNotFoundError:
                if self.kind != LOCAL:
                    raise
                return []

    @_patient
    def objects(self, prefix: str) -> tuple[Found, ...]:
        """Of an object store: what lies directly below ``prefix``, with bytes and tag of each, by one listing."""
        with explained(self, prefix, of_bucket=True):
            return tuple(self._bucket.objects(prefix))

    @_patient
    def get_all(self, wanted: Mapping[str, int]) -> dict[str, bytes]:
        """Of an object store: the content of many objects, asked for at once. One that is not there, is larger than it
        may be or was cut short is left out.

        Args:
            wanted: key -> bytes that it may have.
        """
        with explained(self, ""):
            return self._bucket.get_all(wanted)

    @_patient
    def find(self, prefix: str = "", *, temporary: bool = False) -> tuple[Found, ...]:
        """Every file below ``prefix``, sorted by key; links are not followed, and what has no key is left out.

        Args:
            temporary: only those that are being written, or that a killed process was writing, instead of the others;
                of these also links to folders.
        """
        with explained(self, prefix, of_bucket=True):
            found = self._place.find(prefix, links=temporary)
            wanted = [f for f in found if bool(is_temporary(f.key.rpartition("/")[2])) is temporary]
            wanted = [f for f in wanted if not f.key or self._is_name(KEY, prefix, f.key)]
        return tuple(sorted(wanted, key=lambda f: f.key))

    def _is_name(self, kind: Kind, prefix: str, name: str) -> bool:
        fits = kind.fits(name)
        if not fits and prefix:  # the root may be a folder of the user's, with names of any kind
            skipped(f"{self.url}/{prefix}/{name}", "no name that runner gives")
        return fits


def _check_bucket(url: str, scheme: str) -> None:
    """Raise StoreRefused if a URL does not name a bucket alone."""
    bucket, example = url.partition("://")[2].partition("/")[0], f"{scheme}://bucket/prefix"
    if not bucket:
        raise StoreRefused("no bucket", allowed=example, todo="name it", where=f"store {url}")
    if "@" in bucket:
        raise StoreRefused(
            f"'{bucket}' as its container",
            allowed="az://container/prefix",
            todo="name the account in AZURE_STORAGE_ACCOUNT_NAME, or as account_name in `store_options`",
            where=f"store {url}",
        )
