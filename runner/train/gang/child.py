"""The process of one local rank, from its fork to its report. Light: the driver imports it to name the entry."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import FrameType
from typing import TYPE_CHECKING, Any

from runner.errors import InternalError
from runner.spec import Train
from runner.train.failure import Failure
from runner.train.feeding.share import share
from runner.worker import children
from runner.worker.forkserver_child import die_with_server

if TYPE_CHECKING:
    from runner.train.feeding.helpers import Launcher

#: Seconds that a rank may take to leave after its function has returned and its result is told.
EXIT_S = 3.0


class Terminated(BaseException):
    """SIGTERM reached the rank."""


@dataclass(frozen=True)
class RankJob:
    """What the process of a rank is given.

    Args:
        rank: of `world_size`.
        meeting: the file by which ranks find each other's sockets, in the run's own folder.
        pipes: to what ranks tell each other; see `pipe_store`.
        reports: where the launcher reads ("result", dict) or ("failure", Failure).
        environment: of the driver, now; the server forked from it earlier.
        scope: its payload.
        stage: its name.
        argument: see `run_rank`.
        server: where processes are forked; see `server.join`.
    """

    rank: int
    world_size: int
    meeting: str
    pipes: tuple[Connection, ...]
    reports: Connection
    environment: dict[str, str]
    scope: dict[str, Any]
    stage: str
    argument: dict[str, Any]
    server: tuple[str, bytes | None]


def start_rank(job: RankJob) -> None:
    """Run one rank and report how it ended; the process ends with it."""
    die_with_server()
    children.make_ready()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the driver decides
    signal.signal(signal.SIGTERM, _terminated)
    _set_environment(job.environment, job.rank, job.world_size)
    code = 1
    try:
        from runner.spec.shape import told_threads
        from runner.train.place import LocalStore, Place
        from runner.train.rank import run_rank
        from runner.worker.pool.child import redirect
        from runner.worker.scope import Scope

        scope = Scope.attach(job.scope)
        stage = next(s for s in scope.job.stages if isinstance(s, Train) and s.name == job.stage)
        redirect(str(scope.spool(job.stage, "logs", f"rank{job.rank}")))
        place = Place(
            job.rank,
            job.world_size,
            job.rank,
            job.world_size,
            store=LocalStore(job.meeting, job.pipes),
            reports=job.reports,
            told=told_threads(job.environment),
            helpers=_helpers(job, stage),
        )
        job.reports.send(("result", run_rank(place, stage, scope, job.argument)))
        code = 0
    except Terminated:
        code = 128 + signal.SIGTERM
    except BaseException as error:
        _report(job.reports, job.rank, error)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is leaving
        sys.stdout.flush()
        sys.stderr.flush()
        if code:  # no destructors: those of a process group whose peers are gone may wait or abort
            os._exit(code)
        threading.Thread(target=_end_what_stays, name="runner-exit", daemon=True).start()


def _helpers(job: RankJob, stage: Train) -> Launcher | None:
    """This rank's helpers, if the stage has any."""
    if not stage.helpers:
        return None
    from runner.train.gang import server
    from runner.train.gang.local_helpers import LocalHelpers

    server.join(job.server)
    count = share(stage.helpers, job.rank, job.world_size)
    return LocalHelpers(count, job.rank, job.stage, job.scope, job.environment)


def _end_what_stays() -> None:
    """The interpreter waits for threads and processes that the function left; the stage does not."""
    time.sleep(EXIT_S)
    threads = [t.name for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
    left = [*threads, *(child.name for child in multiprocessing.active_children())]
    print(f"runner: the rank ends without what its function left: {', '.join(left) or 'a call'}", flush=True)
    os._exit(0)


def _terminated(signum: int, frame: FrameType | None) -> None:
    raise Terminated


def _set_environment(environment: dict[str, str], rank: int, world_size: int) -> None:
    """The driver's variables, and those that `torchrun` sets, for code that reads them. Nobody listens at the port."""
    os.environ.clear()
    os.environ.update(environment)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world_size),
        LOCAL_WORLD_SIZE=str(world_size),
        GROUP_RANK="0",
        GROUP_WORLD_SIZE="1",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT="29500",
    )
    if sys.platform == "linux":  # the ranks are on one machine, whatever its name resolves to
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


def _report(reports: Connection, number: int, error: BaseException) -> None:
    from runner.train.failure import failure

    try:
        reports.send(("failure", failure(number, error)))
    except OSError:
        return  # the driver is gone
    except Exception as broken:  # an exception of ours that does not pickle is a fault of ours, and still told
        reports.send(("failure", Failure.now(number, InternalError(f"{error!r} ({broken!r})"))))
