"""The gang of local processes, forked from a server that has torch imported.

It does what torch's elastic launcher does on one machine without restarts: start, watch, tell which rank failed first,
end the others. The launcher itself would have to import torch in the driver (4.5 s of processor time and 250 MB here)
and polls; this waits on the processes. The variables that `torchrun` sets are set as well.
"""

from __future__ import annotations

import contextlib
import multiprocessing.connection
import os
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from runner.errors import Interrupted, WorkerLost
from runner.spec import Train
from runner.train import pipe_store
from runner.train.failure import Failure, first_failure
from runner.train.gang import server as gang_server
from runner.train.gang.child import RankJob, start_rank
from runner.worker import processes
from runner.worker.scope import Scope

#: Seconds that a stop request may go unseen.
_LOOK_S = 0.2
#: Seconds after the first failure in which the cause of an echo may still be reported.
_SETTLE_S = 1.0
#: Seconds between SIGTERM and SIGKILL for the ranks that are left.
_GRACE_S = 2.0


@dataclass
class _Rank:
    number: int
    process: gang_server.RankProcess
    reports: Connection
    result: dict[str, Any] | None = None
    failure: Failure | None = None
    over: bool = False


@dataclass
class LocalGang:
    """Ranks as processes of this machine. They die with the driver, however it dies."""

    _ranks: list[_Rank] = field(default_factory=list)

    def run(self, stage: Train, scope: Scope, argument: dict[str, Any]) -> dict[str, Any]:
        """Fork the ranks from a server that has imported torch, and wait for all of them."""
        gang_server.warm_up()
        self._ranks = []
        try:
            self._start(stage, scope, argument)
            self._watch(scope)
            return self._results()[0]
        finally:
            self._end()

    @property
    def pids(self) -> list[int]:
        """Process ids by rank, while it runs."""
        return [rank.process.pid or 0 for rank in self._ranks]

    def _start(self, stage: Train, scope: Scope, argument: dict[str, Any]) -> None:
        server = pipe_store.Server()
        meeting = scope.scratch / f"{stage.name}-{scope.attempt}.ranks"
        meeting.unlink(missing_ok=True)
        for number in range(stage.workers):
            reader, writer = multiprocessing.connection.Pipe(duplex=False)
            pipes = server.pipes()
            job = RankJob(
                rank=number,
                world_size=stage.workers,
                meeting=str(meeting),
                pipes=pipes,
                reports=writer,
                environment=dict(os.environ),
                scope=scope.payload(),
                stage=stage.name,
                argument=argument,
                server=gang_server.address(),
            )
            process = gang_server.RankProcess(target=start_rank, name=f"{stage.name}-rank{number}", args=(job,))
            process.start()
            for end in (writer, *pipes):
                end.close()
            self._ranks.append(_Rank(number, process, reader))

    # -- watching ------------------------------------------------------------------------------------------------

    def _watch(self, scope: Scope) -> None:
        """Return when every rank has a result; raise the first failure."""
        settled: float | None = None
        while any(not rank.over for rank in self._ranks):
            if scope.stop.is_set():
                raise Interrupted("the training was stopped")
            self._look()
            failures = [rank.failure for rank in self._ranks if rank.failure is not None]
            if failures:
                settled = settled or time.monotonic() + _SETTLE_S
                if any(not failure.is_echo for failure in failures) or time.monotonic() > settled:
                    break
        failures = [rank.failure for rank in self._ranks if rank.failure is not None]
        if failures:
            raise first_failure(failures)

    def _look(self) -> None:
        """Wait for reports and ends, a moment at most, and take in what has come."""
        handles: dict[Any, _Rank] = {}
        for rank in self._ranks:
            if not rank.over:
                handles[rank.process.sentinel] = rank
            if not rank.reports.closed:
                handles[rank.reports] = rank
        for handle in multiprocessing.connection.wait(list(handles), _LOOK_S):
            rank = handles[handle]
            self._read_report(rank)
            if handle is not rank.reports:
                self._note_end(rank)

    def _read_report(self, rank: _Rank) -> None:
        with contextlib.suppress(EOFError, OSError):
            while not rank.reports.closed and rank.reports.poll():
                kind, value = rank.reports.recv()
                if kind == "result":
                    rank.result = value
                elif rank.failure is None:
                    rank.failure = value
            return
        rank.reports.close()

    def _note_end(self, rank: _Rank) -> None:
        rank.process.join()
        rank.over = True
        if rank.failure is None and rank.result is None:
            how = processes.exit_words(rank.process.exitcode or 0)
            error = WorkerLost(f"rank {rank.number} of {len(self._ranks)} ended without a result: {how}")
            rank.failure = Failure.now(rank.number, error)

    def _results(self) -> list[dict[str, Any]]:
        return [rank.result or {} for rank in self._ranks]

    # -- ending --------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """End the ranks that are left: asked first, made to after a moment."""
        for rank in self._ranks:
            if rank.process.is_alive():
                rank.process.terminate()
        deadline = time.monotonic() + _GRACE_S
        for rank in self._ranks:
            rank.process.join(max(0.0, deadline - time.monotonic()))
            if rank.process.is_alive():
                rank.process.kill()
                rank.process.join()
            rank.reports.close()
            rank.process.close()
        self._ranks = []
