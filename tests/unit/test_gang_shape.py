"""What a rank gets of its machine, and what it says where a promised GPU is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from runner import Group
from runner.errors import RunFailed
from runner.worker.gang_shape import RankShape, check_gpu, share_of_rank


def pretend_torch(monkeypatch: pytest.MonkeyPatch, gpu: bool, cuda: str | None = None, hip: str | None = None) -> None:
    """A PyTorch of that build."""
    made = SimpleNamespace(
        __version__="2.9.1",
        cuda=SimpleNamespace(is_available=lambda: gpu),
        version=SimpleNamespace(cuda=cuda, hip=hip),
    )
    monkeypatch.setitem(sys.modules, "torch", made)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the path."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def tool(path: Path, text: str, mode: int = 0o755) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)


@pytest.mark.parametrize(
    ("group", "shape"),
    [
        (Group(cpu=8, gpu=2), RankShape(4, 1)),
        (Group(cpu=1, gpu=4, pretend_gpu=True), RankShape(1, 1, True)),
        (Group(cpu=4), RankShape(1, 0)),
        (Group(cpu=0.5), RankShape(1, 0)),
    ],
)
def test_a_rank_has_its_share_of_a_machine(group: Group, shape: RankShape) -> None:
    """On Kubernetes a rank has one GPU, or one core, and an equal share of the cores, at least one."""
    assert share_of_rank(group, "kuberay") == shape
    assert shape.resources == {"CPU": float(shape.cores or 0), **({"GPU": 1.0} if shape.gpus else {})}


def test_on_this_machine_nothing_is_set_apart() -> None:
    """A group says nothing of a rank of another backend."""
    assert share_of_rank(Group(cpu=8, gpu=2), "ray") == RankShape()
    assert RankShape().resources is None


def test_a_group_without_gpus_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no GPU is expected PyTorch is not even loaded."""
    monkeypatch.setitem(sys.modules, "torch", None)
    check_gpu(False)


def test_a_gpu_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyTorch finds one, nothing is said."""
    pretend_torch(monkeypatch, True, cuda="13.0")
    check_gpu(True)


@pytest.mark.parametrize(
    ("cuda", "hip", "built"),
    [("13.0", None, "CUDA 13.0"), (None, "6.4.1", "ROCm 6.4.1"), (None, None, "the CPU only")],
)
def test_both_versions_are_named(
    monkeypatch: pytest.MonkeyPatch, tools: Path, cuda: str | None, hip: str | None, built: str
) -> None:
    """The error names PyTorch's version with what it was built for, and the driver's version."""
    pretend_torch(monkeypatch, False, cuda, hip)
    tool(tools / "nvidia-smi", 'echo "NVIDIA H100, 535.183.01"')
    with pytest.raises(RunFailed) as raised:
        check_gpu(True)
    assert f"PyTorch 2.9.1 (built for {built})" in str(raised.value)
    assert "nvidia-smi says: NVIDIA H100, 535.183.01" in str(raised.value)
    assert "pretend_gpu=True" in str(raised.value)


def test_the_driver_of_amd_is_asked_too(monkeypatch: pytest.MonkeyPatch, tools: Path) -> None:
    """Without nvidia-smi, or one that cannot be run, rocm-smi answers."""
    pretend_torch(monkeypatch, False, hip="6.4.1")
    tool(tools / "nvidia-smi", "", mode=0o644)
    tool(tools / "rocm-smi", 'echo "Driver version: 6.12.12"')
    with pytest.raises(RunFailed, match="rocm-smi says: Driver version: 6.12.12"):
        check_gpu(True)


def test_a_driver_that_complains_is_quoted(monkeypatch: pytest.MonkeyPatch, tools: Path) -> None:
    """What nvidia-smi says of its own failure is told."""
    pretend_torch(monkeypatch, False, cuda="13.0")
    tool(tools / "nvidia-smi", 'echo "Failed to initialize NVML: Driver/library version mismatch" >&2; exit 18')
    with pytest.raises(RunFailed, match="Driver/library version mismatch"):
        check_gpu(True)


def test_a_pod_without_a_driver(monkeypatch: pytest.MonkeyPatch, tools: Path) -> None:
    """Where no tool is mounted, that is what is wrong."""
    pretend_torch(monkeypatch, False, cuda="13.0")
    with pytest.raises(RunFailed, match="no GPU driver was mounted into the pod"):
        check_gpu(True)
