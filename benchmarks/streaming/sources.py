"""Where data are read from: this machine, the S3 server of the tests, and that behind a slow or faulty connection."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.streaming.case import Server
from benchmarks.streaming.proxy import Manner, Proxy, proxied

KEY, SECRET, BUCKET = "tester", "tester-secret", "lake"
SLOW = Manner(first_byte_s=0.03, bytes_per_s=80e6)
FAULTS = Manner(first_byte_s=0.03, bytes_per_s=80e6, refuse=0.01, cut=0.001, stall=0.001)
#: name -> how the proxy before the server behaves; None: there is none.
MANNERS = {"s3": None, "s3-slow": SLOW, "s3-faults": FAULTS}
NAMES = ("local", *MANNERS)


@dataclass(frozen=True)
class Source:
    """A place to read from.

    Attributes:
        server: None for this machine's files.
        requests: how many the server has had so far.
        upload: puts a local folder there under a name and gives its URL.
    """

    name: str
    server: Server | None = None
    requests: Callable[[], int] | None = None
    upload: Callable[[Path, str], str] | None = None

    def place(self, folder: Path) -> str:
        """The URL of a local folder at this source."""
        return str(folder) if self.upload is None else self.upload(folder, folder.name)


class Sources:
    """Opens sources when they are first asked for, one server for all of them."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._store: Store | None = None
        self._open: dict[str, Source] = {"local": Source("local")}

    def get(self, name: str) -> Source:
        """A source by its name."""
        if name not in self._open:
            if self._store is None:
                self._store = self._stack.enter_context(serve(self._folder / "s3"))
            store, manner = self._store, MANNERS[name]
            if manner is None:
                self._open[name] = Source(name, store.server, store.requests, store.upload)
            else:
                proxy = self._stack.enter_context(proxied(store.server.endpoint, manner))
                server = Server(proxy.url, KEY, SECRET)
                self._open[name] = Source(name, server, lambda: _asked(proxy), store.upload)
        return self._open[name]


def _asked(proxy: Proxy) -> int:
    counts = proxy.counts()
    return counts.gets + counts.others


@dataclass(frozen=True)
class Store:
    """An S3 server that runs."""

    server: Server
    log: Path

    def requests(self) -> int:
        """Lines of its log: one a request."""
        with self.log.open("rb") as file:
            return sum(1 for _ in file)

    def upload(self, folder: Path, name: str) -> str:
        """Each file of a folder by one request, unless it is there with this size; links are left out."""
        import s3fs

        files: Any = s3fs.S3FileSystem(
            key=KEY,
            secret=SECRET,
            client_kwargs={"endpoint_url": self.server.endpoint, "region_name": self.server.region},
        )
        url = f"{BUCKET}/{name}"
        there = {one["name"]: one["size"] for one in files.find(url, detail=True).values()}
        for path in sorted(folder.rglob("*")):
            target = f"{url}/{path.relative_to(folder)}"
            if path.is_file() and not path.is_symlink() and there.get(target) != path.stat().st_size:
                files.put_file(str(path), target, chunksize=1 << 30)
        return f"s3://{url}"


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Store]:
    """The S3 server of the tests on a free port, its objects in a folder that may hold some already.

    Raises:
        InputError: it is not compiled, and there is no Go to compile it with.
    """
    from runner.onebox.build import build
    from runner.onebox.versions import S3

    root, meta, log = folder / "root", folder / "meta", folder / "log"
    (root / BUCKET).mkdir(parents=True, exist_ok=True)
    meta.mkdir(exist_ok=True)
    log.write_bytes(b"")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    command = [str(build(S3)), "--port", f"127.0.0.1:{port}", "--access-log", str(log)]
    process = subprocess.Popen(
        [*command, "posix", "--sidecar", str(meta), str(root)],
        env={**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the S3 server does not answer (exit status {process.poll()})")
            time.sleep(0.05)
        yield Store(Server(f"http://127.0.0.1:{port}", KEY, SECRET), log)
    finally:
        process.terminate()
        process.wait(10)
