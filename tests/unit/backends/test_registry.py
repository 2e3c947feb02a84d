"""Kinds of machines: what each says of itself, and how an installed package adds one."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runner
from runner import Cluster, Group, Kubernetes
from runner.backends import registry
from runner.backends.kind import Kind
from runner.backends.kuberay.kind import kubernetes_of
from runner.client.prepare import prepare
from runner.client.run import Run
from runner.errors import InputError, SpecError
from runner.plan.layout import Layout
from runner.process.package import NAME
from runner.record import RunState
from runner.record.entries import Submitted
from runner.record.index import LIVE
from runner.record.run_spec import RunSpec
from runner.spec import backends
from runner.store import Store
from runner.views.listing import run_lines
from tests.unit.backends.fake_kit import project
from tests.unit.record.spec_kit import SPEC

__all__ = ["project"]
GROUPS = {"cpu": Group(memory="1GiB")}
ON_KUBERNETES = Cluster(backend="kuberay", groups=GROUPS, kubernetes=Kubernetes("image"))
EACH = {
    "local": Cluster(),
    "ray": Cluster(backend="ray"),
    "a Ray cluster": Cluster(backend="ray", address="http://head:8265"),
    "kuberay": ON_KUBERNETES,
    "fake": Cluster(backend="fake"),
}

SLURM = """
from {package}.backends.fake import FakeKind


class Slurm(FakeKind):
    def place(self, bundle):
        return "partition@night"

    def living(self, place):
        return {{place}}


KIND = Slurm()
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package that adds the backend 'slurm'."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/slurm_lake.py").write_text(SLURM.format(package=NAME))
    info = tmp_path / "site/slurm_lake-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slurm-lake\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{backends.GROUP}]\nslurm = slurm_lake:KIND\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield
    registry._load.cache_clear()
    sys.modules.pop("slurm_lake", None)


def test_every_name_of_a_backend_has_a_kind() -> None:
    """What a cluster file may say can be loaded, each by itself."""
    assert {type(registry._load(name)).__mro__[-2] for name in backends.BUILT_IN} == {Kind}
    assert len({type(registry.kind_of(cluster)) for cluster in EACH.values()}) == len(EACH)


@pytest.mark.parametrize(
    ("of", "names"),
    [
        ("remote", {"a Ray cluster", "kuberay"}),
        ("shared", {"a Ray cluster"}),
        ("on_ray", {"ray", "a Ray cluster", "kuberay"}),
        ("launches_early", {"kuberay"}),
        ("restarts", {"kuberay"}),
        ("supervised_here", {"fake"}),
    ],
)
def test_what_kinds_say_of_themselves(of: str, names: set[str]) -> None:
    """Each question has one place where it is answered."""
    assert {name for name, cluster in EACH.items() if getattr(registry.kind_of(cluster), of)} == names


def test_how_kinds_take_up_stages() -> None:
    """One machine and one Ray take all stages at once; on Kubernetes a queue takes a leg whole, and one at a time."""
    layouts = {name: registry.kind_of(cluster).layout(cluster) for name, cluster in EACH.items()}
    assert layouts["local"] == layouts["ray"] == Layout(one_machine=True, one_leg=True)
    assert layouts["a Ray cluster"] == Layout(one_leg=True)
    assert layouts["fake"] == Layout()
    assert layouts["kuberay"] == Layout(lead_s=40.0)
    where = dataclasses.replace(kubernetes_of(ON_KUBERNETES), queue="team", priority="high")
    queued = dataclasses.replace(ON_KUBERNETES, kubernetes=where)
    assert registry.kind_of(queued).layout(queued) == Layout(grows=False, queue="team", priority="high")


def test_a_kind_is_loaded_when_it_is_asked_for() -> None:
    """The registry brings no kind, and a kind nothing of its machines: no Kubernetes, no Ray, no torch."""
    heavy = ("kubernetes", "ray", "torch", "psutil", f"{NAME}.kube", f"{NAME}.backends.kuberay.machines")
    script = (
        f"import sys; from {NAME}.backends import registry\n"
        f"assert not [name for name in sys.modules if name.startswith('{NAME}.backends.kuberay')]\n"
        f"[registry._load(name) for name in {tuple(registry._BUILT_IN)!r}]\n"
        f"sys.exit(str([name for name in {heavy!r} if name in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_an_installed_package_adds_a_backend(slurm: None, project: Path, store: Store) -> None:
    """A cluster may name it, a job runs on it, and its places are its own."""
    cluster = Cluster(backend="slurm", groups={"cpu": Group(cpu=4), "gpu": Group(gpu=2)})
    run = runner.submit("tiny", cluster=cluster)
    assert run.status == "succeeded"
    assert registry.place(run.bundle) == "slurm@partition@night"
    assert registry.living("slurm@partition@night") == {"partition@night"}
    assert "slurm" in prepare("tiny", cluster=cluster).plan.backend


def test_a_backend_that_nobody_adds() -> None:
    """It is refused where it is written, with those that there are."""
    with pytest.raises(SpecError, match=r"(?s)backend='sluurm'.*allowed: 'local', 'ray', 'kuberay', 'fake'"):
        Cluster(backend="sluurm")


def live_run(store: Store, backend: str) -> Run:
    """One that has no end, on a backend of that name."""
    run = Run(store, "r260101-000000-tiny-aa")
    spec: dict[str, Any] = {**SPEC, "cluster": {**SPEC["cluster"], "backend": backend}}
    run.bundle.write_spec(RunSpec.from_json(spec))
    run.bundle.log.append(Submitted("tiny", (("clean",),)))
    run.bundle.index("tiny", LIVE)
    return run


def test_a_run_on_a_backend_that_is_not_here_can_be_read(store: Store) -> None:
    """It takes no list of runs away, is as its log has it, and only who acts on its machines is told why he cannot."""
    run = live_run(store, "slurm")
    assert [line.state for line in run_lines(store, None)] == ["submitted"]
    assert run.status == "submitted"
    assert list(run.logs()) == []
    assert "backend 'slurm'" in run.why()[0].waits_for
    assert run.wait(timeout_s=0.0) is RunState.SUBMITTED
    assert run.cancel()
    assert run.status == "cancelling"
    assert registry.living("slurm@night") is None
    for act in (run.launch, run.end_unstarted):
        with pytest.raises(InputError, match="(?s)backend 'slurm'.*install the package"):
            act()
    assert run.write_off("ann").state is RunState.CANCELLED  # her word is all that there is


@pytest.mark.parametrize(
    ("module", "found"),
    [
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("import nosuchmodule", "ModuleNotFoundError: No module named 'nosuchmodule'"),
        ("", "AttributeError: module 'slurm_lake' has no attribute 'KIND'"),
        ("KIND = 3", "slurm_lake:KIND is int"),
    ],
)
def test_a_package_whose_backend_cannot_be_loaded(
    slurm: None, tmp_path: Path, store: Store, module: str, found: str
) -> None:
    """It is named, as no bug of this one, and its runs can be read."""
    (tmp_path / "site/slurm_lake.py").write_text(module)
    with pytest.raises(InputError, match="backend 'slurm', which slurm-lake adds, cannot be loaded") as refused:
        registry.kind_of(Cluster(backend="slurm"))
    assert found in refused.value.found
    assert live_run(store, "slurm").status == "submitted"
    assert registry.living("slurm@night") is None


def test_a_command_of_kubernetes_says_where_a_cluster_is_none() -> None:
    """Whoever needs a Kubernetes of a cluster without one is told what is allowed."""
    with pytest.raises(InputError, match=r"(?s)backend 'local'.*'kuberay'"):
        kubernetes_of(Cluster())
    assert kubernetes_of(ON_KUBERNETES).image == "image"
