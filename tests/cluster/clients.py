"""Forks real processes that submit, or supervise, from a parent that has imported everything: `python -m` of this file.

Reads a JSON list a line: ["submit", cluster] or ["supervise", argument]; says the process's number, and later its end:
{"began": 123}, {"ended": 123, "code": -9}. A client killed is then killed while it submits, not while it imports.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

MAKE = {"submit": "_submit", "supervise": "_supervise"}


def main() -> None:
    """Fork for each line until there are no more; only this thread forks, and none of the parent's has a lock then."""
    _load()
    lock = threading.Lock()
    for line in sys.stdin:
        kind, argument = json.loads(line)
        with lock:
            pid = os.fork()
        if pid == 0:
            _child(kind, argument)
        _say(lock, {"began": pid})
        threading.Thread(target=_await, args=(pid, lock), daemon=True).start()


def _load() -> None:
    """What a client imports sooner or later, and starts no thread."""
    import kubernetes.client.api_client
    import kubernetes.config
    import pyarrow.dataset
    import s3fs
    import torch
    import yaml  # type: ignore[import-untyped, unused-ignore]

    from runner.backends.kuberay import check as kuberay_check
    from runner.backends.kuberay import client as kuberay_client
    from runner.backends.kuberay import machines as kuberay_machines
    from runner.client import submit
    from runner.control import supervisor

    assert all(
        (submit, kuberay_check, supervisor, kuberay_machines, kuberay_client, kubernetes, pyarrow, s3fs, torch, yaml)
    )


def _child(kind: str, argument: str) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(os.environ["CLIENTS_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    os.dup2(1, 2)
    code = 1
    try:
        code = _supervise(argument) if kind == "supervise" else _submit(argument)
    finally:
        import traceback

        traceback.print_exc() if code else None
        os._exit(code)


def _submit(cluster: str) -> int:
    from runner.client import submit

    submit.submit("solo", cluster=cluster)
    return 0


def _supervise(argument: str) -> int:
    from runner.control import supervisor

    return supervisor.main([argument])


def _await(pid: int, lock: Any) -> None:
    _, status = os.waitpid(pid, 0)
    _say(lock, {"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def _say(lock: Any, words: dict[str, int]) -> None:
    with lock:
        print(json.dumps(words), flush=True)


if __name__ == "__main__":
    main()
