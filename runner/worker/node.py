"""A machine of a cluster, or a container, that is not the driver's, and who ships what its processes write."""

from __future__ import annotations

import json
import logging
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from runner.errors import Cause
from runner.process.package import PACKAGE
from runner.record import Bundle
from runner.record.endings import Ending
from runner.record.shipping import Shipper
from runner.store import Store
from runner.store.retry import PATIENCE_S
from runner.untrusted import logger
from runner.worker import children
from runner.worker.memory import limit_words, out_of_memory_kills
from runner.worker.scope import Scope, is_beside

_log = logging.getLogger("runner.worker.node")  # this module may be the program
#: Seconds that the last lines may take into the bundle.
LAST_LINES_S = 20.0
#: The shipper's program: it gives up its parent before it loads anything.
_LEAVE = f"import os, sys; os.fork() and os._exit(0); from {__name__} import main; main()"


class Node:
    """One process of a stage on a machine of Ray. Away from the driver, what it writes is shipped from here.

    Args:
        payload: of the driver's scope.
        stage, writer: a name that no other process of the attempt has.
    """

    def __init__(self, payload: dict[str, Any], stage: str, writer: str) -> None:
        children.make_ready()
        self._shipper: subprocess.Popen[bytes] | None = None
        if is_beside(payload):
            self.scope = Scope.attach(payload)
            return
        scratch = Path(payload["scratch"]) / f"{stage}-{writer}"
        scratch.mkdir(parents=True, exist_ok=True)
        self.scope = Scope.attach({**payload, "scratch": str(scratch)})
        self._shipper = _ship(payload, scratch, stage, writer)

    def close(self) -> None:
        """Return when everything is in the bundle. After LAST_LINES_S the shipper goes on alone: a slow store fails
        no stage.
        """
        if self._shipper is not None:
            assert self._shipper.stdin is not None
            self._shipper.stdin.close()
            if not _ended(self._shipper, LAST_LINES_S):
                _log.warning("the last lines are still on their way into the bundle")
            self._shipper = None


def _ended(shipper: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Whether the shipper ends in time; it is no child of ours, but its output ends with it."""
    assert shipper.stdout is not None
    deadline = time.monotonic() + timeout_s
    while select.select([shipper.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
        if not os.read(shipper.stdout.fileno(), 1 << 16):
            return True
    return False


def _ship(payload: dict[str, Any], scratch: Path, stage: str, writer: str) -> subprocess.Popen[bytes]:
    """A process of its own: it outlives the one that writes, whatever ends that, and ships its last lines.

    It leaves us at once: Ray kills the children of a worker whose time has come.
    """
    argument = {
        "store": payload["store"], "options": payload["options"], "run_id": payload["run_id"], "stage": stage,
        "attempt": payload["attempt"], "writer": writer, "spool": str(scratch / "spool"),
    }  # fmt: skip
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    shipper = subprocess.Popen(
        [sys.executable, "-c", _LEAVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path},
        cwd="/",
    )
    assert shipper.stdin is not None
    shipper.stdin.write(json.dumps(argument).encode() + b"\n")  # no argument: command lines can be read by everybody
    shipper.stdin.flush()
    shipper.wait()
    return shipper


def main() -> None:
    """Ship until standard input ends, whose first line says what; then tell what the kernel did to the writer."""
    logger.configure()
    argument = json.loads(sys.stdin.buffer.readline())
    bundle = Bundle(Store(argument["store"], argument["options"], PATIENCE_S), argument["run_id"])
    before = out_of_memory_kills()
    shipper = Shipper(Path(argument["spool"]), bundle)
    shipper.start()
    sys.stdin.buffer.read()
    try:
        if out_of_memory_kills() > before:
            words = f"{os.uname().nodename}: out of memory, {limit_words()}: the kernel killed {argument['writer']}"
            ending = Ending(words, Cause.OUT_OF_MEMORY)
            bundle.stage_files.record_ending(argument["stage"], argument["attempt"], argument["writer"], ending)
    finally:
        shipper.close()
