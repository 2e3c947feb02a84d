"""A real Ray cluster of two machines on this one, which asks for a token, and eyes to see what is on it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from runner import Cluster, Group
from runner.backends.ray.api import TERMINAL, RayApi, RayApiError
from runner.client.run import Run
from tests.local.helpers import wait_for

_BIN = Path(sys.executable).parent
#: The host name of the machine that is not the head.
OTHER = "rc-other"


@dataclass(frozen=True)
class RayCluster:
    """Where it is; `environment` is what its clients need."""

    address: str
    folder: Path
    environment: dict[str, str]
    has_other: bool
    gcs: str

    def add_other(self) -> None:
        """A machine of three cores joins."""
        _start(_elsewhere(), {**_kept(self.folder), **self.environment}, f"--address={self.gcs}", "--num-cpus=3")

    def kill_other(self) -> None:
        """The machine that is not the head goes, without a word."""
        (name,) = [
            node["node_id"] for node in self.api.nodes() if node["state"] == "ALIVE" and not node["is_head_node"]
        ]
        for process in _mine(self.folder):
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if words and Path(words[0]).name == "raylet" and any(name in word for word in words):
                    process.kill()

    @property
    def api(self) -> RayApi:
        return RayApi(self.address, {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"})

    def definition(self, **groups: Group) -> Cluster:
        """A cluster for jobs, its machines of one core unless said otherwise."""
        return Cluster(backend="ray", address=self.address, groups={"cpu": Group(), "gpu": Group(), **groups})

    def held(self) -> list[str]:
        """What takes room: jobs that work, actors that are not Ray's own services."""
        jobs = [f"job {j['submission_id']}" for j in self.api.jobs() if j["status"] not in TERMINAL]
        alive = [actor for actor in self.api._state("actors", {}) if actor["state"] != "DEAD"]
        return jobs + [f"actor {actor['class_name']}" for actor in alive if actor["class_name"] not in _SERVICES]


#: Ray starts one of each for all jobs of a cluster, and keeps it.
_SERVICES = ("_AutoscalingCoordinatorActor",)


def _free_port() -> int:
    """Above the range in which Ray's own workers listen."""
    for port in range(28000 + os.getpid() % 2000, 32000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no free port")


@contextlib.contextmanager
def serve() -> Iterator[RayCluster]:
    """A head with one core and another machine with three, until the block ends; then its processes are killed."""
    folder = Path(tempfile.mkdtemp(prefix="rc", dir="/tmp"))
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    environment = {**_kept(folder), **token}
    try:
        port = _free_port()
        ports = ("--port=0", f"--dashboard-port={port}")
        said = _start([], environment, "--head", "--num-cpus=1", *ports, f"--temp-dir={folder}")
        gcs = next(word.split("'")[1] for word in said.split() if word.startswith("--address='"))
        cluster = RayCluster(f"http://127.0.0.1:{port}", folder, token, bool(_elsewhere()), gcs)
        cluster.add_other()
        wait_for(lambda: len(cluster.api.nodes()) == 2, 20, "two machines")
        yield cluster
    finally:
        _kill(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _kept(folder: Path) -> dict[str, str]:
    """This process's environment, for a cluster: marked, and without this checkout's code, since a bundle has it."""
    dropped = ("RAY_", "RUNNER_", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}", "RAY_CLUSTER_TEST": str(folder)}


def _mine(folder: Path) -> list[psutil.Process]:
    """What was started with this cluster's environment, and nobody else's Ray."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("RAY_CLUSTER_TEST") == str(folder):
                found.append(process)
    return found


def _elsewhere() -> list[str]:
    """What gives a command a host name of its own, where this user may."""
    words = ["unshare", "--uts", "sh", "-c", f'hostname {OTHER} && exec "$@"', "sh"]
    try:
        allowed = subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return []
    return words if allowed else []


def _start(before: list[str], environment: dict[str, str], *words: str) -> str:
    ports = ("--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0")
    common = (*ports, "--object-store-memory=100000000", "--disable-usage-stats")
    done = subprocess.run(
        [*before, str(_BIN / "ray"), "start", *words, *common],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _kill(folder: Path) -> None:
    for _ in range(3):
        mine = _mine(folder)
        for process in mine:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(mine, timeout=5)


def job_pids(cluster: RayCluster, submission_id: str) -> list[int]:
    """The processes of a job's entrypoint on the head."""
    job: Any = cluster.api.job(submission_id)
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environment = process.environ()
            config = environment.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "")
            ours = environment.get("RAY_CLUSTER_TEST") == str(cluster.folder)
            if ours and f'"job_submission_id": "{submission_id}"' in config and _is_entrypoint(process):
                found.append(process.pid)
    assert job is not None
    return found


def _is_entrypoint(process: psutil.Process) -> bool:
    return any("RUNNER_BOOT" in word for word in process.cmdline())


def jobs_of(cluster: RayCluster, run: Run) -> dict[str, str]:
    """The run's jobs and their states."""
    return {j["submission_id"]: j["status"] for j in cluster.api.jobs() if j["submission_id"].startswith(run.id)}


def await_held_nothing(cluster: RayCluster) -> None:
    """Within 15 s nothing but the cluster itself is there."""
    deadline = time.monotonic() + 15
    while cluster.held():
        assert time.monotonic() < deadline, cluster.held()
        time.sleep(0.2)


__all__ = ["RayApiError", "RayCluster", "await_held_nothing", "job_pids", "jobs_of", "serve"]
