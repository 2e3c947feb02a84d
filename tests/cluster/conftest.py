"""A real cluster for the tests of this folder: one that is given, or the one-machine cluster."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner import api
from runner.kube.client import Kube
from runner.onebox import build, images, packages, versions
from tests.cluster import ends, kit

# Read when the tests are collected, for no test sees the settings of the person who runs it.
GIVEN = {name: value for name, value in os.environ.items() if name.startswith("RUNNER_TEST_")}
CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Cluster:
    """A cluster to test on.

    Args:
        kubeconfig: the file that leads to it.
        image: an image that it has; with ``mounts``, one that is almost empty.
        environment: what a client's environment must have besides.
        mounts: folders of the machine that a pod must see at the same paths.
        kubectl: a program that speaks to it.
        onebox: whether it is the one-machine cluster.
    """

    kubeconfig: Path
    image: str
    environment: dict[str, str]
    mounts: tuple[Path, ...]
    kubectl: Path
    onebox: bool

    def run(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """The output of one kubectl command."""
        environment = {**os.environ, **self.environment, "KUBECONFIG": str(self.kubeconfig)}
        done = subprocess.run(
            [str(self.kubectl), *arguments], input=stdin, env=environment, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes the cluster down unless asked for, and count no start of a cluster as a test's time."""
    here = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    left_out = [item for item in here if item.get_closest_marker("soak") and "soak" not in config.getoption("-m")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
    for item in here:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(300, func_only=True))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how the runs ended that something had happened to."""
    if ends.SEEN:
        terminalreporter.section("what became of runs")
        for line in ends.table():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster of RUNNER_TEST_KUBECONFIG, or the one-machine cluster, which stays up; skips where neither can be."""
    if kubeconfig := GIVEN.get("RUNNER_TEST_KUBECONFIG"):
        kubectl = Path(packages.program("kubectl"))
        return Cluster(Path(kubeconfig), GIVEN["RUNNER_TEST_IMAGE"], {}, (), kubectl, onebox=False)
    if reason := why_not():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    environment = exported(onebox("up", *(["--no-kueue"] if build.missing((versions.KUEUE,)) else [])))
    return Cluster(
        Path(environment["KUBECONFIG"]), images.HOST, environment, host_mounts(), build.program(versions.KUBECTL),
        onebox=True,
    )  # fmt: skip


@pytest.fixture
def kube(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kube]:
    """The API; the current folder is a project with the job `solo`, and its store a new folder of the lake."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.setenv("RUNNER_STORE", f"s3://lake/test-{uuid.uuid4().hex[:8]}")
    monkeypatch.chdir(kit.write_project(tmp_path / "project"))
    yield Kube(None, "default")
    for run in api.runs():  # what a failed test has left would keep the next one from its machines
        if run.bundle.log.read() and not run.view().state.ended:
            run.cancel()


@pytest.fixture
def simulated_nodes(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[int]:
    """So many simulated nodes as the test's parameter says, for as long as it lasts."""
    if not cluster.onebox:
        pytest.skip("nodes are simulated beside the one-machine cluster alone")
    try:
        onebox("kwok", str(request.param))
        yield request.param
    finally:
        onebox("kwok", "0")


def why_not() -> str:
    """Why the one-machine cluster cannot be here, in plain words; nothing if it can."""
    missing = build.missing(versions.NEEDED)
    if not sys.platform.startswith("linux"):
        return "no cluster: RUNNER_TEST_KUBECONFIG is not set, and the one-machine cluster needs Linux"
    if os.geteuid() != 0:
        return "no cluster: RUNNER_TEST_KUBECONFIG is not set, and only root can start the one-machine cluster"
    if missing and os.environ.get("CI") != "true":
        names = ", ".join(part.name for part in missing)
        return f"no cluster: RUNNER_TEST_KUBECONFIG is not set, and `make cluster` has not compiled {names} yet"
    return ""


def onebox(*arguments: str) -> str:
    """The output of one command of the one-machine cluster."""
    command = [sys.executable, "-m", "runner.onebox", *arguments]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def exported(text: str) -> dict[str, str]:
    """The variables of lines such as ``export NAME=value``."""
    pairs = (shlex.split(line)[1].partition("=") for line in text.splitlines())
    return {name: value for name, _, value in pairs}


def host_mounts() -> tuple[Path, ...]:
    """What this very Python needs: the system, its base, its virtual environment, and the checkout."""
    paths = [Path("/usr"), Path(sys.base_prefix), Path(sys.prefix), CHECKOUT]
    return tuple(p for p in paths if not any(q != p and p.is_relative_to(q) for q in paths))
