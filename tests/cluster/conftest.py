"""A real cluster for the tests of this folder: one that is given, or the one-machine cluster."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner.client import lookup
from runner.kube.client import Kube, resource
from runner.kube.team.objects import supervisor_objects
from runner.onebox import build, images, versions
from runner.onebox.places import BUCKET
from tests import ROOT as CHECKOUT
from tests.cluster import ends, kit

#: What says where the lake of a cluster that is given is, and its keys.
AWS = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "ENDPOINT_URL", "REGION", "DEFAULT_REGION")
LAKE = {f"AWS_{name}": os.environ[f"AWS_{name}"] for name in AWS if f"AWS_{name}" in os.environ}


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
    if "RUNNER_TEST_KUBECONFIG" in kit.GIVEN:
        return given()
    ci = os.environ.get("CI") == "true"
    if reason := why_not():
        kit.leave_out(reason)
    no_kueue = ["--no-kueue"] if build.missing((versions.KUEUE,)) and not ci else []
    environment = {**exported(onebox("up", *no_kueue)), "RUNNER_STORE": f"s3://{BUCKET}"}
    return Cluster(
        Path(environment["KUBECONFIG"]),
        images.HOST,
        environment,
        host_mounts(),
        build.program(versions.KUBECTL),
        onebox=True,
    )


def given() -> Cluster:
    """A cluster that is there. Its namespace `default` gets what a namespace needs for runs, and the lake's keys."""
    if not {"RUNNER_TEST_IMAGE", "RUNNER_TEST_CLUSTER"} & kit.GIVEN.keys():
        pytest.fail("RUNNER_TEST_KUBECONFIG needs RUNNER_TEST_IMAGE (an image) or RUNNER_TEST_CLUSTER (a cluster file)")
    if not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= LAKE.keys():
        pytest.fail("RUNNER_TEST_KUBECONFIG needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of its lake")
    kubernetes = kit.cluster_file().kubernetes
    assert kubernetes is not None
    kubeconfig = CHECKOUT / kit.GIVEN["RUNNER_TEST_KUBECONFIG"]
    store = kit.GIVEN.get("RUNNER_TEST_STORE", "s3://lake").rstrip("/")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(kubeconfig))
        kube = Kube(None, "default")
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": kit.CREDENTIALS, "namespace": "default"}}
        for body in [*supervisor_objects("default"), {**secret, "stringData": LAKE}]:
            kube.apply(body, resource(body))
    kubectl = Path(shutil.which("kubectl") or build.program(versions.KUBECTL))
    return Cluster(kubeconfig, kubernetes.image, {**LAKE, "RUNNER_STORE": store}, (), kubectl, onebox=False)


@pytest.fixture
def kube(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kube]:
    """The API; the current folder is a project with the job `solo`, and its store a new folder of the lake."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.setenv("RUNNER_STORE", f"{cluster.environment['RUNNER_STORE']}/test-{uuid.uuid4().hex[:8]}")
    monkeypatch.chdir(kit.write_project(tmp_path / "project"))
    yield Kube(None, "default")
    for run in lookup.runs():  # what a failed test has left would keep the next one from its machines
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
