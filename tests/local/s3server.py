"""A real S3 server (versitygw) on this machine, compiled from its Go module once and kept in the user's cache."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner.errors import InputError
from runner.onebox.build import build
from runner.onebox.versions import S3

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


def free_port() -> int:
    """A port of the loopback address on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def serve(folder: Path, port: int = 0) -> Iterator[S3Server]:
    """Run the server on a port of the loopback address (0: a free one), with one bucket, until the block ends."""
    root, meta = folder / "root", folder / "meta"
    (root / "lake").mkdir(parents=True)
    meta.mkdir()
    port = port or free_port()
    process = subprocess.Popen(
        [str(binary()), "--port", f"127.0.0.1:{port}", "--keep-alive", "posix", "--sidecar", str(meta), str(root)],
        env={**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
            assert process.poll() is None, "the S3 server ended"
            assert time.monotonic() < deadline, "the S3 server does not answer"
            time.sleep(0.05)
        yield at(port)
    finally:
        process.kill()  # asked to end it would wait for the connections that clients keep
        process.wait(10)
