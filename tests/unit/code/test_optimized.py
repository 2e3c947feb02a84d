"""`python -O` holds for all processes of a run, or for none, and what it makes is a result of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import runner
from runner import Cluster, Group, Kubernetes
from runner.backends import entry
from runner.backends.kuberay import check as kuberay_check
from runner.backends.kuberay import manifest
from runner.backends.kuberay.objects import run_facts
from runner.backends.local import client as local_client
from runner.backends.local.client import LocalClient
from runner.backends.ray import jobs as ray_jobs
from runner.client import prepare
from runner.client.revise import Question, ask
from runner.client.run import Run
from runner.code import optimized
from runner.code.hashing import identify
from runner.code.references import FunctionRef
from runner.errors import InputError, SpecError
from runner.plan.project import find_project
from tests.unit.backends.fake_kit import FAKE, project
from tests.unit.cli.kit import write_project

__all__ = ["project"]
LEVELS = [0, 1, 2]


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The level of this process, as far as runner sees it."""
    monkeypatch.setattr(optimized, "level", lambda: request.param)
    return int(request.param)


@pytest.fixture
def of_level(project: Path, level: int, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that was submitted by a process of that level; by now the level is another, and so is the environment's."""
    run = runner.submit("tiny", cluster=FAKE)
    monkeypatch.setattr(optimized, "level", lambda: (level + 1) % 3)
    monkeypatch.setenv(optimized.VARIABLE, str((level + 1) % 3))
    return run


def test_the_level_is_that_of_the_submission(of_level: Run, level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the spec, and on this machine the supervisor, whose environment the others inherit, has it."""
    assert of_level.bundle.spec().optimized == level
    started: list[dict[str, str]] = []
    monkeypatch.setattr(local_client.private, "start_module", lambda *_, **how: started.append(how["env"]) or Process())
    LocalClient(of_level.bundle).launch()
    assert started[0].get(optimized.VARIABLE) == (str(level) if level else None)


class Process:
    """A process that was started, and is this one."""

    pid = os.getpid()


def test_jobs_of_a_ray_cluster_have_it_whatever_its_machines_have(of_level: Run, level: int) -> None:
    """The driver overrides the environment of the machines, also where it says that there is no level."""
    held: list[str] = []

    class Api:
        def submit(self, name: str, entrypoint: str, environment: dict[str, str], metadata: dict[str, str]) -> bool:
            assert optimized.VARIABLE not in environment  # there, Ray would not let the driver say it for its workers
            held.append(entrypoint)
            return True

    ray_jobs.start_driver(Api(), of_level.bundle, 0, 1)  # type: ignore[arg-type]
    assert f" {optimized.VARIABLE}={level or ''}; exec python " in held[0]


def test_a_driver_in_a_pod_has_it_and_tells_its_workers(of_level: Run, level: int) -> None:
    """By its command, and by what Ray starts workers with; Ray's own processes in the pods are left as they are."""
    groups = {"cpu": Group(cpu=4, memory="8GiB")}
    cluster = Cluster(backend="kuberay", groups=groups, kubernetes=Kubernetes(image="a:1"))
    facts = dataclasses.replace(run_facts(of_level.bundle), cluster=cluster)
    job = manifest.ray_job(facts, 0, 1, "cpu", (1, 1), None)
    assert job["spec"]["entrypoint"].startswith(f"{optimized.VARIABLE}={level} python " if level else "python ")
    assert optimized.VARIABLE not in json.dumps(job["spec"]["rayClusterSpec"]).replace(entry.boot_text(), "")


def test_rays_services_are_not_told(level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are, and whatever is started afterwards."""
    monkeypatch.setenv(optimized.VARIABLE, "2")
    with optimized.hidden():
        assert optimized.VARIABLE not in os.environ
    assert os.environ[optimized.VARIABLE] == "2"
    assert optimized.for_workers() == {optimized.VARIABLE: str(level) if level else ""}


def test_a_process_of_another_level_does_not_begin(of_level: Run, level: int) -> None:
    """An image or a machine that sets it for itself is found out before anything is made."""
    with pytest.raises(InputError, match=r"the driver runs as .*, and the run was submitted by"):
        optimized.check(of_level.bundle.spec().optimized, "the driver")
    optimized.check((level + 1) % 3, "the driver")


def test_a_resume_looks_at_the_code_as_the_run_does(of_level: Run, level: int, project: Path) -> None:
    """Whatever a file does with `__debug__` or its docstrings, it does in the process that is asked about it."""
    job = project / "jobs/tiny.py"
    job.write_text(f'"""Words."""\n{job.read_text()}raise RuntimeError(f"{{__debug__}} {{__doc__}}")\n')
    spec = of_level.bundle.spec()
    path = tuple(map(os.path.abspath, sys.path))
    with pytest.raises(InputError, match=f"{level == 0} {'None' if level == 2 else 'Words.'}"):
        ask(Question(spec, find_project(), of_level.bundle.root, "tiny", "the file", path=path))


def test_what_is_made_without_assertions_is_another_result(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The level is a part of the code, so that each level has its own keys; without it they are what they were."""
    found = {}
    for number in LEVELS:
        monkeypatch.setattr(optimized, "level", lambda number=number: number)
        found[number] = identify([FunctionRef("tokens", "jobs/tiny.py", "jobs.tiny")], project)
    assert len({each.hash for each in found.values()}) == 3
    assert "python -O" not in found[0].parts
    assert {**found[0].parts, "python -O": "1"} == found[1].parts


@pytest.mark.parametrize("where", ["environment", "pod_template", "group", "head"])
def test_a_cluster_does_not_say_it_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Pods are started as the process that submits; a cluster's file that says otherwise is refused by name."""
    monkeypatch.chdir(write_project(tmp_path / "project"))
    template = {"spec": {"containers": [{"name": "main", "env": [{"name": optimized.VARIABLE, "value": "1"}]}]}}
    given: dict[str, Any] = {
        "environment": {"environment": {optimized.VARIABLE: "1"}},
        "pod_template": {"pod_template": template},
        "head": {"head": Group(memory="1GiB", pod_template=template)},
    }.get(where, {})
    group = Group(cpu=4, gpu=1, memory="8GiB", pod_template=template if where == "group" else {})
    cluster = Cluster(
        backend="kuberay", groups={"cpu": group, "gpu": group}, kubernetes=Kubernetes(image="a:1", **given)
    )
    prepared = prepare.prepare("tiny", cluster=cluster, store=str(tmp_path / "store"))
    with pytest.raises(SpecError, match=f"{optimized.VARIABLE}='1'"):
        kuberay_check.check(prepared.resolved, prepared.plan)


def test_the_level_is_pythons_own(project: Path) -> None:
    """The flag and the variable mean the same to a submit."""
    words = ["-c", "from runner.code import optimized; print(optimized.level())"]
    for flags, variable, level in ((["-O"], "", "1"), (["-OO"], "", "2"), ([], "1", "1"), ([], "", "0")):
        environment = {**os.environ, optimized.VARIABLE: variable}
        done = subprocess.run([sys.executable, *flags, *words], env=environment, stdout=subprocess.PIPE, check=True)
        assert done.stdout.decode().strip() == level
