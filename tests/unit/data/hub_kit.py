"""A stand-in for the Hugging Face hub: the few calls of its HTTP API by which files are listed and read, here.

The hub itself is not asked by any test. What is asked of this server is what `huggingface_hub` asks of the hub.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

#: Files from so many bytes on are kept beside git, with a SHA-256 of their own.
LARGE = 100


class Hub(http.server.ThreadingHTTPServer):
    """Repositories of data sets: name -> its commits, in order, each with path -> bytes.

    Attributes:
        ranges: (path, first byte, last byte) of each read.
        token: without which nothing is told; '' where anybody is.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, list[dict[str, bytes]]] = {}
        self.ranges: list[tuple[str, int, int]] = []
        self.token = ""

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, name: str, files: dict[str, bytes]) -> str:
        """Write a commit of a repository; its id."""
        commits = self.repositories.setdefault(name, [])
        commits.append(files)
        return sha(files)

    def at(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """(commit, files) of a revision."""
        commits = self.repositories[name]
        known = {**{sha(files): files for files in commits}, "main": commits[-1]}
        return (sha(known[revision]), known[revision]) if revision in known else None


def sha(files: dict[str, bytes]) -> str:
    """The id of a commit."""
    return hashlib.sha1(repr(sorted(files.items())).encode(), usedforsecurity=False).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._answer()

    def _answer(self) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self._refuse(401, "GatedRepo")
        api = parts[0] == "api"
        name, *rest = "/".join(parts[1 + api : 3 + api]), *parts[3 + api :]
        if name not in self.server.repositories:
            return self._refuse(404, "RepoNotFound")
        found = self.server.at(name, rest[1] if len(rest) > 1 else "main")
        if found is None:
            return self._refuse(404, "RevisionNotFound")
        commit, files = found
        if api and (not rest or rest[0] == "revision"):
            return self._send(200, json.dumps({"id": name, "sha": commit, "siblings": []}).encode())
        if api and rest[0] == "tree":
            entries = list(_tree(files, "/".join(rest[2:]), "recursive=true" in self.path.lower()))
            return self._send(200, json.dumps(entries).encode()) if entries else self._refuse(404, "EntryNotFound")
        path = "/".join(rest[2:])
        if rest[0] != "resolve" or path not in files:
            return self._refuse(404, "EntryNotFound")
        return self._send_range(path, files[path])

    def _send_range(self, path: str, body: bytes) -> None:
        asked = self.headers.get("Range", "").removeprefix("bytes=")
        if not asked:
            return self._send(200, body)
        first, _, last = asked.partition("-")
        start, end = int(first), min(int(last or len(body)), len(body) - 1)
        self.server.ranges.append((path, start, end))
        return self._send(206, body[start : end + 1], {"Content-Range": f"bytes {start}-{end}/{len(body)}"})

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _tree(files: dict[str, bytes], folder: str, recursive: bool) -> Iterator[dict[str, Any]]:
    prefix, folders = f"{folder}/" if folder else "", set()
    for path, body in sorted(files.items()):
        if not path.startswith(prefix):
            continue
        names = path.removeprefix(prefix).split("/")
        for depth in range(1, len(names)):
            above = prefix + "/".join(names[:depth])
            if above not in folders and (recursive or depth == 1):
                folders.add(above)
                yield {"type": "directory", "path": above, "oid": "0" * 40, "size": 0}
        if recursive or len(names) == 1:
            oid = hashlib.sha1(body, usedforsecurity=False).hexdigest()
            large = {"oid": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 100}
            more = {"lfs": large} if len(body) >= LARGE else {}
            yield {"type": "file", "path": path, "oid": oid, "size": len(body), **more}


@contextmanager
def serve() -> Iterator[Hub]:
    """A hub until the block ends."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
