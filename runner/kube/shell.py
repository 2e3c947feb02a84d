"""A terminal in a pod, and local ports that lead to one; the `kubernetes` package speaks the websocket."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import sys
import termios
import threading
import tty
from collections.abc import Iterator, Sequence
from typing import Any

from runner.kube.client import Kube, KubeError

_RESIZE, _CHUNK = 4, 1 << 16


def run_in(kube: Kube, pod: str, container: str, command: Sequence[str]) -> int:
    """Run a command in a pod with this process's terminal (or its pipes). Returns the exit code."""
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    channel = _exec(kube, pod, container, command, terminal)
    with _raw(terminal), _resizes(channel, terminal):
        _pump(channel)
    return int(channel.returncode or 0)


def _exec(kube: Kube, pod: str, container: str, command: Sequence[str], terminal: bool) -> Any:
    from kubernetes.client import CoreV1Api
    from kubernetes.client.exceptions import ApiException
    from kubernetes.stream import stream

    try:
        return stream(
            CoreV1Api(kube.fresh_api()).connect_get_namespaced_pod_exec,
            pod,
            kube.namespace,
            container=container,
            command=list(command),
            stdin=True,
            stdout=True,
            stderr=not terminal,
            tty=terminal,
            _preload_content=False,
        )
    except ApiException as error:
        words = " ".join(str(error.reason).split("-+-+-")[0].split())
        raise KubeError(error.status or 0, "", f"no shell in pod {pod}: {words}") from None


def _pump(channel: Any) -> None:
    """Bytes both ways, until the other side ends."""
    stdin = sys.stdin.fileno()
    watched = [stdin, channel.sock]
    while channel.is_open():
        ready = select.select(watched, [], [], 0.5)[0]
        if stdin in ready:
            data = os.read(stdin, _CHUNK)
            if data:
                channel.write_stdin(data.decode(errors="surrogateescape"))
            else:
                watched.remove(stdin)
        if channel.sock in ready:
            channel.update(timeout=0)
        _write(channel)
    _write(channel)


def _write(channel: Any) -> None:
    if channel.peek_stdout():
        sys.stdout.write(channel.read_stdout())
        sys.stdout.flush()
    if channel.peek_stderr():
        sys.stderr.write(channel.read_stderr())
        sys.stderr.flush()


@contextlib.contextmanager
def _raw(terminal: bool) -> Iterator[None]:
    """Every key goes to the pod, Ctrl-C too."""
    if not terminal:
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _resizes(channel: Any, terminal: bool) -> Iterator[None]:
    if not terminal:
        yield
        return

    def tell(*_: Any) -> None:
        size = shutil.get_terminal_size()
        channel.write_channel(_RESIZE, f'{{"Width":{size.columns},"Height":{size.lines}}}')

    before = signal.signal(signal.SIGWINCH, tell)
    tell()
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


class Forward:
    """A port of this machine that leads to one of a pod, until closed.

    Args:
        pod: of the namespace of `kube`.
        port: there.
        local: here; 0 takes a free one.
    """

    def __init__(self, kube: Kube, pod: str, port: int, local: int = 0) -> None:
        self._kube, self._pod, self._port = kube, pod, port
        self._listener = socket.create_server(("127.0.0.1", local))
        self.local = int(self._listener.getsockname()[1])

    def serve(self) -> None:
        """Carry connections until `close`."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _carry(self, client: socket.socket) -> None:
        from kubernetes.client import CoreV1Api
        from kubernetes.stream import portforward

        connect = CoreV1Api(self._kube.fresh_api()).connect_get_namespaced_pod_portforward
        tunnel = portforward(connect, self._pod, self._kube.namespace, ports=str(self._port))
        other = tunnel.socket(self._port)
        other.setblocking(True)
        with client, contextlib.closing(other):
            back = threading.Thread(target=_copy, args=(other, client), daemon=True)
            back.start()
            _copy(client, other)
            back.join()


def _copy(source: Any, target: Any) -> None:
    with contextlib.suppress(OSError):  # either side may go at any time
        while data := source.recv(_CHUNK):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
