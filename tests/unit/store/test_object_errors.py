"""What the clients of GCS and Azure raise, as errors that say whether another try may help, and what to do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from azure.core import exceptions as of_azure
from gcsfs.retry import HttpError
from google.auth.exceptions import RefreshError, TransportError

from runner.errors import StoreAway, StoreError, StoreRefused
from runner.store import Store, azure, bucket, gcs
from runner.store.place import Unanswered

GONE, BAD = FileNotFoundError, StoreRefused


def answered(status: int) -> OSError:
    return gcs._refusal(status, json.dumps({"error": {"message": f"words of {status}"}}).encode(), "lake/x")


def of_status(status: int) -> of_azure.HttpResponseError:
    error = of_azure.HttpResponseError(f"words of {status}\nmore of them")
    error.status_code = status
    return error


def absent(status: int, kind: type[of_azure.HttpResponseError]) -> of_azure.HttpResponseError:
    error = kind("words")
    error.status_code = status
    return error


def fail(store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """A read of which the client says that."""
    module: Any = gcs if store.kind == "gcs" else azure
    kind = gcs.GcsBucket if store.kind == "gcs" else azure.AzureContainer

    async def read(self: object, name: str, most: int | None) -> bytes:
        with module._translated(name):
            raise error

    monkeypatch.setattr(kind, "_read", read)
    monkeypatch.setattr(bucket, "_PAUSES_S", (0.0, 0.0))
    store.get("x")


GCS: list[tuple[Exception, type[Exception], str]] = [
    (answered(404), GONE, ""), (answered(503), StoreAway, "HTTP status 503: words of 503"),
    (answered(429), StoreAway, "429"), (answered(403), BAD, "no permission at lake/runs/x"),
    (answered(401), BAD, "no permission"), (answered(400), BAD, "HTTP status 400: words of 400"),
    (aiohttp.ServerDisconnectedError(), StoreAway, "Disconnected"), (TimeoutError("slow"), StoreAway, "slow"),
    (HttpError({"code": 500, "message": "oh"}), StoreAway, "oh"), (HttpError({"code": 401}), BAD, "no permission"),
    (TransportError("no metadata server"), StoreAway, "no metadata"), (RefreshError("expired"), BAD, "expired"),
]  # fmt: skip
AZURE: list[tuple[Exception, type[Exception], str]] = [
    (absent(404, of_azure.ResourceNotFoundError), GONE, ""), (of_status(503), StoreAway, "status 503: words of 503$"),
    (of_status(429), StoreAway, "429"), (of_status(403), BAD, "no permission at lake/runs/x"),
    (of_status(400), BAD, "words of 400$"), (of_azure.ServiceRequestError("no route"), StoreAway, "no route"),
    (of_azure.ServiceResponseError("half of it"), StoreAway, "half of it"),
    (of_azure.IncompleteReadError("cut"), StoreAway, "cut"),
    (of_azure.ClientAuthenticationError("no identity here"), BAD, "no identity here"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("url", "error", "told", "words"),
    [("gs://lake/runs", *case) for case in GCS] + [("az://lake/runs", *case) for case in AZURE],
)
def test_what_a_client_raises_is_told_in_words_of_a_store(
    url: str, error: Exception, told: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What passes is tried again and is a store that is away; the rest is final and says what to set."""
    store = Store(url)
    store._fs = _Fs()
    with pytest.raises(told) as raised:
        fail(store, monkeypatch, error)
    if isinstance(raised.value, StoreError):
        assert re.search(words, raised.value.found)
        assert raised.value.where == f"store {url}"


class _Fs:
    """What is asked of a file system whose bucket answers nothing."""

    def __init__(self) -> None:
        from fsspec.asyn import get_loop

        self.loop = get_loop()


def test_a_request_is_sent_again_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it is not answered, with pauses between; then the error is the caller's."""
    monkeypatch.setattr(bucket, "_PAUSES_S", (0.0,) * 4)
    store, tries = Store("gs://lake/runs"), []
    store._fs = _Fs()

    async def create(self: object, name: str, data: bytes) -> bool:
        tries.append(name)
        if len(tries) < 5:
            raise Unanswered(5, "busy", name)
        return True

    monkeypatch.setattr(gcs.GcsBucket, "_create", create)
    assert store.create("x", b"")
    assert tries == ["runs/x"] * 5
    monkeypatch.setattr(bucket, "_PAUSES_S", (0.0,) * 3)
    tries.clear()
    with pytest.raises(StoreAway, match="busy"):
        store.create("x", b"")
    assert len(tries) == 4


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("az://lake/runs", {}, "AZURE_STORAGE_ACCOUNT_NAME"),
        ("gs://lake/runs", {"token": {"type": "nothing"}}, "GOOGLE_APPLICATION_CREDENTIALS"),
    ],
)
def test_credentials_that_are_none_are_refused(
    url: str, options: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before any request, and said is what to set."""
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_CONNECTION_STRING"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StoreRefused) as raised:
        Store(url, options).get("x")
    assert words in raised.value.todo
