"""What a rank says of its GPUs before the first step, with values as real machines show them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from runner.errors import RunFailed
from runner.train import accelerator
from runner.train.accelerator import Seen, Wanted, cuda_version, disagreements, driver_version, faults, summary
from runner.train.place import Place

H100 = Seen(
    torch="2.9.1+cu128",
    cuda="12.8",
    gpus=1,
    name="NVIDIA H100 80GB HBM3",
    driver="570.86.15",
    driver_cuda=(12, 8),
    nccl="2.27.5",
)
MI300 = Seen(
    torch="2.9.1+rocm6.4",
    hip="6.4.1",
    gpus=1,
    name="AMD Instinct MI300X",
    driver="6.12.12",
    nccl="2.22.3",
)
CPU = Seen(torch="2.9.1+cpu")
NVIDIA, AMD = Wanted(1, "nvidia", peers=True), Wanted(1, "amd", peers=True)

OPEN_MODULE = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22-I3)\n"
    "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n"
)
CLOSED_MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n"


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        (H100, NVIDIA),
        (MI300, AMD),
        (H100, Wanted(1)),
        (replace(H100, driver_cuda=(12, 2), driver="535.183.01"), NVIDIA),  # an older driver of the same CUDA runs it
        (replace(H100, driver_cuda=(13, 0), driver="580.65.06"), NVIDIA),
        (replace(H100, driver_cuda=None, driver=""), NVIDIA),
        (replace(H100, gpus=8), Wanted(4, "nvidia", peers=True)),
        (replace(H100, nccl=None), Wanted(1, "nvidia")),  # a rank alone talks to nobody
    ],
)
def test_gpus_that_fit(seen: Seen, wanted: Wanted) -> None:
    """What works on real machines is not refused."""
    assert faults(seen, wanted) == []


@pytest.mark.parametrize(
    ("seen", "wanted", "words"),
    [
        (CPU, NVIDIA, "the group has GPUs of NVIDIA, and PyTorch 2.9.1+cpu is built for the CPU only"),
        (MI300, NVIDIA, "the group has GPUs of NVIDIA, and PyTorch 2.9.1+rocm6.4 is built for ROCm 6.4.1"),
        (H100, AMD, "the group has GPUs of AMD, and PyTorch 2.9.1+cu128 is built for CUDA 12.8"),
        (
            replace(H100, torch="2.10.0", cuda="13.0", gpus=0, driver="535.183.01", driver_cuda=(12, 2)),
            NVIDIA,
            "PyTorch 2.10.0 (built for CUDA 13.0) needs a driver of 580.65 or newer, "
            "and the driver 535.183.01 knows CUDA up to 12.2",
        ),
        (
            replace(H100, cuda="14.1", driver=""),
            NVIDIA,
            "PyTorch 2.9.1+cu128 (built for CUDA 14.1) needs a driver that knows CUDA 14, "
            "and the driver here knows CUDA up to 12.8",
        ),
        (replace(H100, gpus=0), NVIDIA, "the group has GPUs, and PyTorch 2.9.1+cu128 (built for CUDA 12.8) finds none"),
        (H100, Wanted(2, "nvidia"), "the ranks of this machine need 2 GPUs, and PyTorch 2.9.1+cu128 sees 1"),
        (replace(H100, nccl=None), NVIDIA, "PyTorch 2.9.1+cu128 has no NCCL, by which the ranks' GPUs talk"),
    ],
)
def test_gpus_that_do_not_fit(seen: Seen, wanted: Wanted, words: str) -> None:
    """The cause comes first, in one sentence with both versions."""
    assert faults(seen, wanted)[0] == words


def test_ranks_must_have_the_same_libraries() -> None:
    """Ranks of different images are told apart by rank; different GPUs and drivers may work together."""
    other = replace(H100, name="NVIDIA A100-SXM4-80GB", driver="550.54.15")
    assert disagreements([H100, other]) == []
    old = replace(H100, nccl="2.21.5", torch="2.6.0+cu124", cuda="12.4")
    assert disagreements([H100, old, H100]) == [
        "ranks have different versions of NCCL: 2.27.5 on ranks 0, 2, 2.21.5 on rank 1",
        "ranks have different versions of PyTorch: 2.9.1+cu128 (built for CUDA 12.8) on ranks 0, 2, "
        "2.6.0+cu124 (built for CUDA 12.4) on rank 1",
    ]
    many = disagreements([H100] * 20 + [old])[0]
    assert "ranks 0, 1, 2, 3, 4, 5, 6, 7, ..., 2.21.5 on rank 20" in many


@pytest.mark.parametrize(
    ("ranks", "line"),
    [
        ([H100, H100], "2 x NVIDIA H100 80GB HBM3, driver 570.86.15, CUDA 12.8, NCCL 2.27.5, PyTorch 2.9.1+cu128"),
        ([MI300], "1 x AMD Instinct MI300X, driver 6.12.12, ROCm 6.4.1, RCCL 2.22.3, PyTorch 2.9.1+rocm6.4"),
        (
            [H100, replace(H100, name="NVIDIA A100", driver="550.54.15")],
            "1 x NVIDIA H100 80GB HBM3, 1 x NVIDIA A100, driver 570.86.15 and 550.54.15, CUDA 12.8, NCCL 2.27.5, "
            "PyTorch 2.9.1+cu128",
        ),
        ([replace(H100, driver="", nccl=None)], "1 x NVIDIA H100 80GB HBM3, CUDA 12.8, PyTorch 2.9.1+cu128"),
    ],
)
def test_the_first_line_of_a_log(ranks: list[Seen], line: str) -> None:
    """GPUs by kind, driver, what PyTorch was built for, and the library of collectives, in one line."""
    assert summary(ranks) == line


@pytest.mark.parametrize(("text", "version"), [(OPEN_MODULE, "580.65.06"), (CLOSED_MODULE, "535.183.01"), ("none", "")])
def test_the_driver_as_the_kernel_tells_it(text: str, version: str) -> None:
    """Both kinds of NVIDIA's kernel module name their version."""
    assert driver_version(text) == version


@pytest.mark.parametrize(("number", "version"), [(12040, (12, 4)), (13000, (13, 0)), (11080, (11, 8)), (0, None)])
def test_the_cuda_of_a_driver(number: int, version: tuple[int, int] | None) -> None:
    """The driver's library writes the newest CUDA that it knows as one number."""
    assert cuda_version(number) == version


def test_a_driver_library_that_is_not_there() -> None:
    """Without a library, or with another, nothing is known."""
    assert accelerator.driver_cuda("libabsent.so.1") is None
    assert accelerator.driver_cuda("libc.so.6") is None


# -- the machine -----------------------------------------------------------------------------------------------------


def pretend_torch(monkeypatch: pytest.MonkeyPatch, gpus: int, cuda: str | None = None, hip: str | None = None) -> None:
    """A PyTorch of that build."""
    made = SimpleNamespace(
        __version__="2.9.1",
        cuda=SimpleNamespace(
            is_available=lambda: gpus > 0,
            device_count=lambda: gpus,
            get_device_name=lambda device: f"GPU {device}",
            nccl=SimpleNamespace(version=lambda: (2, 27, 5)),
        ),
        version=SimpleNamespace(cuda=cuda, hip=hip),
        distributed=SimpleNamespace(is_available=lambda: True, is_nccl_available=lambda: bool(cuda or hip)),
    )
    monkeypatch.setitem(sys.modules, "torch", made)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the path; the kernel tells of no driver."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(accelerator, "_NVIDIA", tmp_path / "nvidia")
    monkeypatch.setattr(accelerator, "_AMD", tmp_path / "amd")
    monkeypatch.setattr(accelerator, "_KFD", tmp_path / "kfd")
    monkeypatch.setattr(accelerator, "driver_cuda", lambda: None)
    return tmp_path


def tool(path: Path, text: str, mode: int = 0o755) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)


def test_a_group_without_gpus_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no GPU is expected PyTorch is not even loaded."""
    monkeypatch.setitem(sys.modules, "torch", None)
    accelerator.check(Wanted(0))


def test_gpus_that_are_there(monkeypatch: pytest.MonkeyPatch, tools: Path) -> None:
    """Where PyTorch finds as many as were promised, nothing is said, and all that is known is collected."""
    pretend_torch(monkeypatch, 2, cuda="12.8")
    (tools / "nvidia").write_text(CLOSED_MODULE)
    accelerator.check(Wanted(2, "nvidia", peers=True))
    assert accelerator.look(1) == Seen("2.9.1", "12.8", None, 2, "GPU 1", "535.183.01", None, "2.27.5")
    pretend_torch(monkeypatch, 1, hip="6.4.1")
    (tools / "amd").write_text("6.12.12\n")
    assert accelerator.look() == Seen("2.9.1", None, "6.4.1", 1, "GPU 0", "6.12.12", None, "2.27.5")


@pytest.mark.parametrize(
    ("cuda", "hip", "built"),
    [("13.0", None, "CUDA 13.0"), (None, "6.4.1", "ROCm 6.4.1"), (None, None, "the CPU only")],
)
def test_both_versions_are_named(
    monkeypatch: pytest.MonkeyPatch, tools: Path, cuda: str | None, hip: str | None, built: str
) -> None:
    """The error names PyTorch's version with what it was built for, and the driver's version."""
    pretend_torch(monkeypatch, 0, cuda, hip)
    tool(tools / "nvidia-smi", 'echo "NVIDIA H100, 535.183.01"')
    with pytest.raises(RunFailed) as raised:
        accelerator.check(Wanted(1))
    assert f"PyTorch 2.9.1 (built for {built})" in str(raised.value)
    assert "nvidia-smi says: NVIDIA H100, 535.183.01" in str(raised.value)
    assert "pretend_gpu=True" in str(raised.value)


def test_the_driver_of_amd_is_asked_too(monkeypatch: pytest.MonkeyPatch, tools: Path) -> None:
    """Without nvidia-smi, or one that cannot be run, rocm-smi answers."""
    pretend_torch(monkeypatch, 0, hip="6.4.1")
    tool(tools / "nvidia-smi", "", mode=0o644)
    tool(tools / "rocm-smi", 'echo "Driver version: 6.12.12"')
    with pytest.raises(RunFailed, match="rocm-smi says: Driver version: 6.12.12"):
        accelerator.check(Wanted(1, "amd"))


def test_a_driver_that_complains_is_quoted(monkeypatch: pytest.MonkeyPatch, tools: Path) -> None:
    """What nvidia-smi says of its own failure is told."""
    pretend_torch(monkeypatch, 0, cuda="13.0")
    tool(tools / "nvidia-smi", 'echo "Failed to initialize NVML: Driver/library version mismatch" >&2; exit 18')
    with pytest.raises(RunFailed, match="Driver/library version mismatch"):
        accelerator.check(Wanted(1))


def test_a_pod_without_a_driver(monkeypatch: pytest.MonkeyPatch, tools: Path) -> None:
    """Where no tool is mounted, that is what is wrong."""
    pretend_torch(monkeypatch, 0, cuda="13.0")
    with pytest.raises(RunFailed, match="no GPU driver was mounted into the pod"):
        accelerator.check(Wanted(1, "nvidia"))


def test_a_driver_that_only_the_kernel_tells_of(monkeypatch: pytest.MonkeyPatch, tools: Path) -> None:
    """An image without the vendor's tools still tells which driver there is."""
    pretend_torch(monkeypatch, 0, hip="6.4.1")
    (tools / "amd").write_text("6.12.12\n")
    with pytest.raises(RunFailed, match=r"the kernel's driver is 6\.12\.12, and the image has neither"):
        accelerator.check(Wanted(1, "amd"))


def test_a_device_that_may_not_be_opened(monkeypatch: pytest.MonkeyPatch, tools: Path) -> None:
    """AMD's device is of a group of the node, which a user that is not root must be given."""
    pretend_torch(monkeypatch, 0, hip="6.4.1")
    (tools / "kfd").touch()
    monkeypatch.setattr(accelerator.os, "access", lambda path, mode: False)
    with pytest.raises(RunFailed, match="supplementalGroups"):
        accelerator.check(Wanted(1, "amd"))


# -- which GPU is a rank's own ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alone", "visible", "device"),
    [(False, 4, "cuda:3"), (False, 1, "cpu"), (True, 1, "cuda:0"), (True, 0, "cpu")],
)
def test_the_device_of_a_rank(monkeypatch: pytest.MonkeyPatch, alone: bool, visible: int, device: str) -> None:
    """The fourth rank of a machine has the fourth GPU that it sees, or the only one where it sees no other's."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: visible > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    assert str(Place(3, 8, 3, 4, alone=alone).device) == device


def test_ray_shows_ranks_on_amd_their_own_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """ROCm's PyTorch heeds the variable in which Ray puts one rank's GPU; for NVIDIA's it has no meaning."""
    pretend_torch(monkeypatch, 1, hip="6.4.1")
    assert accelerator.sees_only_its_own({"HIP_VISIBLE_DEVICES": "3", "CUDA_VISIBLE_DEVICES": "0,1,2,3"})
    assert not accelerator.sees_only_its_own({"CUDA_VISIBLE_DEVICES": "0,1,2,3"})
    pretend_torch(monkeypatch, 4, cuda="12.8")
    assert not accelerator.sees_only_its_own({"HIP_VISIBLE_DEVICES": "3", "CUDA_VISIBLE_DEVICES": "0,1,2,3"})
