"""What the operating system and object stores refuse, as errors that say what to do."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from runner.errors import StoreAway, StoreError, StoreRefused
from runner.store import whole_copy
from runner.store.folder import NO_FILE
from runner.store.place import AZURE, GCS, LOCAL, S3, Unanswered, Unwanted
from runner.untrusted.shapes import broken

if TYPE_CHECKING:
    from runner.store.store import Store

#: What an object store, or the disk here, says of a request that will never be right.
_FINAL = (
    errno.EINVAL,
    errno.EPERM,
    errno.ENOSYS,
    errno.ENAMETOOLONG,
    errno.EMSGSIZE,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.ENOTDIR,
)
#: What a folder on another machine says while that does not answer.
_AWAY = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH)


#: What each kind of object store is called, where it is looked for, and how it is told who asks.
_CALLED = {S3: "an S3", GCS: "a Cloud Storage", AZURE: "an Azure Blob Storage"}
_FOUND = {
    S3: "AWS_ENDPOINT_URL leads to it (not set: Amazon's)",
    GCS: "STORAGE_EMULATOR_HOST is not set (or leads to it)",
    AZURE: "AZURE_STORAGE_ACCOUNT_NAME, or the connection string, is that of the account",
}
_KNOWN = {
    S3: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or a profile), and AWS_ENDPOINT_URL where it is not Amazon's",
    GCS: "set GOOGLE_APPLICATION_CREDENTIALS to a key's file, or run `gcloud auth application-default login`",
    AZURE: "set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN or an identity "
    "(`az login`), or set AZURE_STORAGE_CONNECTION_STRING",
}


def _is_away(error: BaseException, kind: str) -> bool:
    """Whether an object store did not answer, or said that it cannot now."""
    if kind != S3:
        return isinstance(error, Unanswered)
    if type(error).__module__.partition(".")[0] in ("aiohttp", "urllib3"):
        return True
    from botocore import exceptions

    if isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError | ConnectionError | TimeoutError):
        return True
    refused = FileNotFoundError | FileExistsError | PermissionError
    return isinstance(error, OSError) and not isinstance(error, refused) and error.errno not in _FINAL


def _is_of(error: OSError, part: str) -> bool:
    """Whether it is about the local file that is written while an object is read."""
    return error.filename == part or error.errno in whole_copy.NO_ROOM


class explained(contextlib.AbstractContextManager[None]):
    """Turns the operating system's refusals into errors that say what to do.

    Args:
        store: which was asked.
        key: for what.
        part: a local file that is written; what is refused of that is no word of the store's, and stays as it is.
        of_bucket: whether what an object store does not find can be nothing but the bucket.
    """

    def __init__(self, store: Store, key: str, part: str = "", *, of_bucket: bool = False) -> None:
        self._store, self._key, self._part, self._of_bucket = store, key, part, of_bucket

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or (self._part and isinstance(error, OSError) and _is_of(error, self._part)):
            return
        where = f"store {self._store.url}"
        told = _of_server(error, self._store.kind, where)
        if self._of_bucket and self._store.kind != LOCAL and isinstance(error, FileNotFoundError):
            told = StoreRefused(
                f"there is no bucket '{self._store.root.partition('/')[0]}'",
                allowed="one that is there",
                todo="make it, or choose another store with --store or RUNNER_STORE",
                where=where,
            )
        if told is None and isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            path = self._store.path(self._key)
            no_file = error.errno in NO_FILE and self._key
            told = broken(path, "no plain file") if no_file else _of_files(error, path, where)
        if told is not None:
            raise told from error


def _of_server(error: BaseException, kind: str, where: str) -> StoreError | None:
    """What an object store does not answer, and what its client lacks; None of anything else."""
    if kind == LOCAL:
        return None
    if _is_away(error, kind):
        return StoreAway(
            _told(error),
            allowed=f"{_CALLED[kind]} that answers",
            todo=f"see whether it is up and {_FOUND[kind]}, and try again",
            where=where,
        )
    if isinstance(error, Unwanted) or type(error).__module__.startswith(("botocore.", "aiobotocore.")):
        return StoreRefused(
            _told(error).removeprefix(f"{type(error).__name__}: "),
            allowed=f"{_CALLED[kind]} that answers, and credentials for it",
            todo=_KNOWN[kind],
            where=where,
        )
    return None


def _told(error: BaseException) -> str:
    """In one line, what there is to say of an error."""
    if isinstance(error, Unanswered | Unwanted):
        return " ".join(str(error.strerror).split())
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _of_files(error: OSError, path: str, where: str) -> StoreError:
    """What a disk refuses, or a bucket in the words of one."""
    if isinstance(error, PermissionError):
        return StoreRefused(
            f"no permission at {path}",
            allowed="a store that this user may read and write",
            todo="check the owner of the folder or the credentials, or choose another with --store or RUNNER_STORE",
            where=where,
        )
    if error.errno == errno.EFBIG:
        return StoreRefused(
            f"{path} is larger than a file may be here",
            allowed="files as large as the run's code and checkpoints",
            todo="raise the limit (`ulimit -f`), or choose another store with --store or RUNNER_STORE",
            where=where,
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreRefused(
            f"no space left while writing {path}",
            allowed="a store with room for the run",
            todo="free space, or choose another store with --store or RUNNER_STORE; then `runner resume`",
            where=where,
        )
    if error.errno in _AWAY or isinstance(error, ConnectionError | TimeoutError):
        return StoreAway(
            f"{type(error).__name__} at {path}: {' '.join(str(error).split())}",
            allowed="a folder that answers",
            todo="see whether the machine that has it is up, and try again",
            where=where,
        )
    if error.errno in (errno.EROFS, errno.ENOTDIR):
        return StoreRefused(
            f"{os.strerror(error.errno or 0).lower()} at {path}",
            allowed="a folder that can be written",
            todo="choose another store with --store or RUNNER_STORE",
            where=where,
        )
    return StoreError(
        f"{type(error).__name__} at {path}: {' '.join(str(error).split())}",
        allowed="a store that answers",
        todo="see whether it is up, and try again",
        where=where,
    )
