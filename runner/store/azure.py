"""A store in a container of Azure Blob Storage.

adlfs brings the client, with the credentials, the same as for data; requests are those of Azure's own library, of which
adlfs hands on too little: a list with the MD5 of each blob, and a read that knows the size beforehand.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from runner.store import bucket
from runner.store.bucket import PARTS_AT_ONCE, Objects
from runner.store.place import Found, Unanswered, Unwanted

#: Each request is sent once: Azure's library would send it again for a minute before anybody hears of it.
_ONCE: Mapping[str, Any] = {"retry_total": 0, "connection_timeout": 20, "read_timeout": 60}
#: A request that comes too late, or too often; it may be right in a moment.
_LATER = (408, 429)
#: Seconds between two questions whether a copy is done.
_COPY_PAUSE_S = 0.5


def connect(options: Mapping[str, Any]) -> Any:
    """The fsspec file system of Azure.

    Args:
        options: of its storage, without names of variables.

    Raises:
        Unwanted: no account is named.
    """
    from adlfs import AzureBlobFileSystem

    try:
        return AzureBlobFileSystem(**{"use_listings_cache": False, **options})
    except ValueError as error:
        raise Unwanted(errno.EACCES, str(error)) from error


class AzureContainer(Objects):
    """Blobs of a container."""

    async def _create(self, name: str, data: bytes) -> bool:
        """Put Blob with ``If-None-Match: *``, which the server refuses with 409 where the blob exists.

        https://learn.microsoft.com/rest/api/storageservices/specifying-conditional-headers-for-blob-service-operations
        """
        try:
            with _translated(name):
                await self._blob(name).upload_blob(data, overwrite=False, content_settings=_settings(data), **_ONCE)
        except FileExistsError:
            return False
        return True

    async def _put(self, name: str, data: bytes) -> None:
        with _translated(name):
            await self._blob(name).upload_blob(data, overwrite=True, content_settings=_settings(data), **_ONCE)

    async def _upload(self, name: str, path: str) -> None:
        """Blocks, and the list of them."""
        with _translated(name), open(path, "rb") as file:
            await self._blob(name).upload_blob(file, overwrite=True, max_concurrency=PARTS_AT_ONCE, **_ONCE)

    async def _copy(self, source: str, name: str) -> None:
        with _translated(name):
            blob = self._blob(name)
            told = await blob.start_copy_from_url(self._blob(source).url, **_ONCE)
            state = told["copy_status"]
            while state == "pending":
                await asyncio.sleep(_COPY_PAUSE_S)
                state = (await blob.get_blob_properties(**_ONCE)).copy.status
            if state != "success":
                raise Unanswered(errno.EIO, f"a copy has ended as '{state}'", source)

    async def _delete(self, name: str) -> None:
        with _translated(name):
            await self._blob(name).delete_blob(delete_snapshots="include", **_ONCE)

    async def _read(self, name: str, most: int | None) -> bytes | int:
        from azure.core.exceptions import HttpResponseError

        bound = {} if most is None else {"offset": 0, "length": most + 1}
        with _translated(name):
            try:
                found = await self._blob(name).download_blob(**bound, max_concurrency=PARTS_AT_ONCE, **_ONCE)
            except HttpResponseError as error:
                if error.status_code != 416:
                    raise
                return b""  # an empty blob has no such range
            size = int(found.properties.size)
            return size if most is not None and size > most else bytes(await found.readall())

    async def _stat(self, name: str) -> tuple[int, str]:
        with _translated(name):
            told = await self._blob(name).get_blob_properties(**_ONCE)
        return int(told.size), str(told.etag)

    async def _part(self, name: str, version: str, start: int, size: int) -> bytes:
        from azure.core import MatchConditions

        same = {"etag": version, "match_condition": MatchConditions.IfNotModified}
        with _translated(name):
            found = await self._blob(name).download_blob(offset=start, length=size, **same, **_ONCE)
            data = bytes(await found.readall())
        if len(data) != size:
            raise Unanswered(errno.EIO, f"{len(data):,} bytes came of {size:,}", name)
        return data

    async def _list(self, prefix: str, deep: bool, most: int | None = None) -> tuple[list[Found], list[str]]:
        from azure.storage.blob.aio import BlobPrefix

        asked = {"name_starts_with": prefix or None, "include": ["metadata"], "results_per_page": most or bucket.PAGE}
        files: list[Found] = []
        folders: list[str] = []
        with _translated(self.bucket):
            async for each in self._blobs(deep, **asked, **_ONCE):
                if isinstance(each, BlobPrefix):
                    folders.append(each.name)
                else:
                    files.append(_found(each))
                if most is not None and len(files) + len(folders) >= most:
                    break
        return files, folders

    def _blobs(self, deep: bool, **asked: Any) -> Any:
        container = self.fs.service_client.get_container_client(self.bucket)
        return container.list_blobs(**asked) if deep else container.walk_blobs(delimiter="/", **asked)

    def _blob(self, name: str) -> Any:
        return self.fs.service_client.get_blob_client(self.bucket, name)


def _settings(data: bytes) -> Any:
    """With the MD5, which a list of blobs then tells."""
    from azure.storage.blob import ContentSettings

    digest = hashlib.md5(data, usedforsecurity=False).digest()
    return ContentSettings(content_type="application/octet-stream", content_md5=bytearray(digest))


def _found(blob: Any) -> Found:
    """A blob, as a list tells of it. In an account with a hierarchical namespace folders are blobs too."""
    is_folder = (blob.metadata or {}).get("hdi_isfolder") == "true"
    tag = bytes(blob.content_settings.content_md5 or b"").hex()
    return Found(str(blob.name), int(blob.size), blob.last_modified.timestamp(), tag, is_folder)


@contextlib.contextmanager
def _translated(where: str) -> Iterator[None]:
    """What Azure's libraries raise, as an OSError that says whether it may be right in a moment."""
    from azure.core import exceptions as azure

    try:
        yield
    except azure.ResourceNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), where) from error
    except azure.ResourceExistsError as error:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), where) from error
    except azure.HttpResponseError as error:
        raise _refusal(error, where) from error
    except azure.AzureError as error:  # no connection, or half of an answer
        raise Unanswered(errno.EIO, f"{type(error).__name__}: {error}", where) from error


def _refusal(error: Any, where: str) -> OSError:
    """What a status of HTTP means; there is none of half an answer, and where credentials could not even be had."""
    from azure.core.exceptions import ClientAuthenticationError

    status, words = int(error.status_code or 0), str(error.message).partition("\n")[0]
    if status in (401, 403):
        return PermissionError(errno.EACCES, words, where)
    away = not status and not isinstance(error, ClientAuthenticationError)
    if away or status in _LATER or status >= 500:
        return Unanswered(errno.EIO, f"HTTP status {status}: {words}", where)
    return Unwanted(errno.EACCES, f"{type(error).__name__}: {words}", where)
