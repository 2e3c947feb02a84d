"""Servers of every kind of object store that a run's store may be: each on this machine, with one bucket."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runner.errors import InputError
from runner.onebox import build
from runner.onebox.versions import GCS
from tests.local import s3server
from tests.local.servers import free_port, running

AZURITE = "3.37.0"
#: What npm installs, with the hash of each package.
LOCK = Path(__file__).with_name("azurite")
#: The account that Azurite comes with; both are public.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

#: Without this gcsfs asks Google itself, for a minute, of which kind each bucket is. It is read when gcsfs is imported.
_ALONE = "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"
os.environ[_ALONE] = "false"


@dataclass(frozen=True)
class Server:
    """Where a server is.

    Args:
        url: of its bucket.
        options: fsspec storage options.
        environment: the same as environment variables, as a user would give credentials.
        port: of the loopback address.
    """

    url: str
    options: dict[str, object]
    environment: dict[str, str] = field(default_factory=dict)
    port: int = 0


def s3_at(port: int) -> Server:
    """The S3 server at a port, whether it runs or not."""
    server = s3server.at(port)
    return Server(f"s3://{server.bucket}", server.options, server.environment, port)


def gcs_at(port: int) -> Server:
    """The same of Google Cloud Storage."""
    endpoint = f"http://127.0.0.1:{port}"
    return Server(
        "gs://lake",
        {"token": "anon", "endpoint_url": endpoint},
        {"STORAGE_EMULATOR_HOST": endpoint, "NO_GCE_CHECK": "true", _ALONE: "false"},
        port,
    )


def azure_at(port: int) -> Server:
    """The same of Azure Blob Storage."""
    endpoint = f"http://127.0.0.1:{port}/{_ACCOUNT}"
    text = f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_KEY};BlobEndpoint={endpoint};"
    return Server("az://lake", {"connection_string": text}, {"AZURE_STORAGE_CONNECTION_STRING": text}, port)


@contextmanager
def serve_s3(folder: Path, port: int = 0) -> Iterator[Server]:
    """versitygw."""
    port = port or free_port()
    with s3server.serve(folder, port):
        yield s3_at(port)


@contextmanager
def serve_gcs(folder: Path, port: int = 0) -> Iterator[Server]:
    """fake-gcs-server, which checks a precondition and writes under one lock."""
    try:
        program = build.build(GCS)
    except InputError as error:
        _missing(f"no emulator of GCS: {error}")
    port = port or free_port()
    words = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory", "-log-level", "error"]
    with running([str(program), *words, "-public-host", f"127.0.0.1:{port}"], port):
        _post(f"http://127.0.0.1:{port}/storage/v1/b", {"name": "lake"})
        yield gcs_at(port)


@contextmanager
def serve_azure(folder: Path, port: int = 0) -> Iterator[Server]:
    """Azurite; without Node the test is skipped, and in CI it fails."""
    program = _azurite()
    port = port or free_port()
    words = ["--inMemoryPersistence", "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    with running([str(program), *words, "--blobPort", str(port)], port, folder=folder):
        _make_container(azure_at(port))
        yield azure_at(port)


#: Kind -> how its server is started, and where it is then.
SERVERS: dict[str, tuple[Callable[..., AbstractContextManager[Server]], Callable[[int], Server]]] = {
    "s3": (serve_s3, s3_at), "gcs": (serve_gcs, gcs_at), "azure": (serve_azure, azure_at),
}  # fmt: skip


def _missing(why: str) -> None:
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(why)


def _post(url: str, body: dict[str, str]) -> None:
    asked = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=20):
        pass


def _make_container(server: Server) -> None:
    from azure.storage.blob import BlobServiceClient

    with BlobServiceClient.from_connection_string(str(server.options["connection_string"])) as client:
        client.create_container("lake").close()


def _azurite() -> Path:
    """The program, installed from npm once, as its lock says, and kept in the user's cache."""
    folder = build.cache() / f"azurite-{AZURITE}"
    program = folder / "node_modules/.bin/azurite-blob"
    for needed in ("node", "npm"):
        if shutil.which(needed) is None:
            _missing(f"no Azurite: there is no `{needed}` here")
    folder.mkdir(parents=True, exist_ok=True)
    with build.locked(folder / ".lock"):
        if not program.exists():
            _install(folder)
    return program


def _install(folder: Path) -> None:
    """Into a folder beside it first: half of an installation would be taken for a whole one."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".install-") as beside:
        for path in LOCK.iterdir():
            shutil.copyfile(path, Path(beside, path.name))
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(command, cwd=beside, capture_output=True, text=True, check=False)
        if done.returncode:
            _missing(f"no Azurite: npm cannot install it: {done.stderr.strip()[-500:]}")
        Path(beside, "node_modules").rename(folder / "node_modules")
