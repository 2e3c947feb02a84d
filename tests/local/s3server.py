"""A real S3 server (versitygw) on this machine, compiled from its Go module once and kept in the user's cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import s3fs

from runner.errors import InputError
from runner.onebox.build import build
from runner.onebox.versions import S3
from tests.local.servers import free_port, running

KEY, SECRET = "tester", "tester-secret"


@dataclass(frozen=True)
class S3Server:
    """Where the server is."""

    endpoint: str
    bucket: str

    @property
    def options(self) -> dict[str, object]:
        """fsspec storage options."""
        return {
            "key": KEY,
            "secret": SECRET,
            "client_kwargs": {"endpoint_url": self.endpoint, "region_name": "us-east-1"},
        }

    @property
    def environment(self) -> dict[str, str]:
        """The same as environment variables, as a user would give credentials."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


def at(port: int) -> S3Server:
    """The server at a port, whether it runs or not."""
    return S3Server(f"http://127.0.0.1:{port}", "lake")


def binary() -> Path:
    """The compiled server; skips the test where it cannot be built, fails it in CI."""
    try:
        return build(S3)
    except InputError as error:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"no S3 server: {error}")


@contextmanager
def serve(folder: Path, port: int = 0) -> Iterator[S3Server]:
    """Run the server on a port of the loopback address (0: a free one), with one bucket, until the block ends."""
    root, meta = folder / "root", folder / "meta"
    (root / "lake").mkdir(parents=True)
    meta.mkdir()
    port = port or free_port()
    words = ["--port", f"127.0.0.1:{port}", "--keep-alive", "posix", "--sidecar", str(meta), str(root)]
    with running([str(binary()), *words], port, {"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}):
        s3fs.S3FileSystem.clear_instance_cache()  # one made by the environment is kept, whatever that says later
        yield at(port)
