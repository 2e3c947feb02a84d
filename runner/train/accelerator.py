"""The first look of a rank at its GPUs: what is wrong is said within seconds, with both versions, before step 1.

`look` asks the machine; what is made of it is pure, so that each answer can be tested with values of real machines.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.errors import RunFailed

_DRIVER_COMMANDS = (
    ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"),
    ("rocm-smi", "--showdriverversion"),
)
#: Where the kernel tells of its drivers; a pod with a GPU sees these too.
_NVIDIA, _AMD = Path("/proc/driver/nvidia/version"), Path("/sys/module/amdgpu/version")
#: By which user programs reach AMD's driver.
_KFD = Path("/dev/kfd")
#: CUDA's major version -> the oldest driver that runs programs built for any CUDA of it.
_OLDEST_DRIVER = {11: "450.80", 12: "525.60", 13: "580.65"}
_VENDORS = {"nvidia": "NVIDIA", "amd": "AMD"}


@dataclass(frozen=True)
class Wanted:
    """What a rank was promised.

    Args:
        gpus: that it must see: its own, and those of the ranks beside it where all see the same.
        vendor: 'nvidia' or 'amd'; None: not said.
        peers: whether it talks to other ranks.
    """

    gpus: int
    vendor: str | None = None
    peers: bool = False


@dataclass(frozen=True)
class Seen:
    """What a rank found.

    Args:
        torch: PyTorch's version; cuda, hip: what it was built for.
        gpus: that it can use; `name` of the rank's own.
        driver: its version, '' where the kernel tells of none.
        driver_cuda: the newest CUDA that it knows, as (major, minor).
        nccl: PyTorch's version of it, or of RCCL; None without.
    """

    torch: str
    cuda: str | None = None
    hip: str | None = None
    gpus: int = 0
    name: str = ""
    driver: str = ""
    driver_cuda: tuple[int, int] | None = None
    nccl: str | None = None

    @property
    def built(self) -> str:
        """What PyTorch was built for."""
        kinds = {"CUDA": self.cuda, "ROCm": self.hip}
        return next((f"{kind} {version}" for kind, version in kinds.items() if version), "the CPU only")


def check(wanted: Wanted) -> None:
    """Fail where this process has not the GPUs that it was promised, or cannot use them.

    Raises:
        RunFailed: says what was found, and what to do.
    """
    if wanted.gpus < 1:
        return
    seen = look()
    found = faults(seen, wanted)
    if found:
        if not seen.gpus:
            found.append(driver_words(seen.driver))
        raise RunFailed(
            f"{'; '.join(found)}. "
            "Use an image whose PyTorch fits the driver, or set pretend_gpu=True on the group to train on the CPU"
        )


def sees_only_its_own(environment: Mapping[str, str]) -> bool:
    """Whether a rank of Ray sees no GPU but its own.

    Ray Train shows the ranks of a machine each other's GPUs by CUDA_VISIBLE_DEVICES. Before ROCm's PyTorch the variable
    HIP_VISIBLE_DEVICES comes first, in which Ray has put the rank's own.
    """
    import torch

    return torch.version.hip is not None and bool(environment.get("HIP_VISIBLE_DEVICES"))


def faults(seen: Seen, wanted: Wanted) -> list[str]:
    """Everything that keeps a rank from training on its GPUs, the cause first."""
    return [*_wrong_build(seen, wanted), *_old_driver(seen), *_too_few(seen, wanted), *_no_nccl(seen, wanted)]


def _wrong_build(seen: Seen, wanted: Wanted) -> list[str]:
    fits = {"nvidia": seen.cuda, "amd": seen.hip}
    if wanted.vendor is None or fits[wanted.vendor]:
        return []
    return [f"the group has GPUs of {_VENDORS[wanted.vendor]}, and PyTorch {seen.torch} is built for {seen.built}"]


def _old_driver(seen: Seen) -> list[str]:
    """A driver runs programs for every CUDA of its major version, and for older ones."""
    if seen.cuda is None or seen.driver_cuda is None:
        return []
    needed = int(seen.cuda.partition(".")[0])
    if seen.driver_cuda[0] >= needed:
        return []
    oldest = _OLDEST_DRIVER.get(needed)
    newer = f"a driver of {oldest} or newer" if oldest else f"a driver that knows CUDA {needed}"
    known = "{}.{}".format(*seen.driver_cuda)
    return [
        f"PyTorch {seen.torch} (built for CUDA {seen.cuda}) needs {newer}, "
        f"and the driver {seen.driver or 'here'} knows CUDA up to {known}"
    ]


def _too_few(seen: Seen, wanted: Wanted) -> list[str]:
    if seen.gpus >= wanted.gpus:
        return []
    if seen.gpus == 0:
        return [f"the group has GPUs, and PyTorch {seen.torch} (built for {seen.built}) finds none"]
    return [f"the ranks of this machine need {wanted.gpus} GPUs, and PyTorch {seen.torch} sees {seen.gpus}"]


def _no_nccl(seen: Seen, wanted: Wanted) -> list[str]:
    if not wanted.peers or seen.nccl is not None:
        return []
    return [f"PyTorch {seen.torch} has no NCCL, by which the ranks' GPUs talk"]


def disagreements(ranks: Sequence[Seen]) -> list[str]:
    """What must be the same on every rank and is not: collectives between different versions hang or give garbage."""
    found = []
    for what, values in {
        "NCCL": [seen.nccl or "none" for seen in ranks],
        "PyTorch": [f"{seen.torch} (built for {seen.built})" for seen in ranks],
    }.items():
        if len(set(values)) > 1:
            groups = {
                value: [rank for rank, other in enumerate(values) if other == value] for value in dict.fromkeys(values)
            }
            words = ", ".join(f"{value} on {_ranks(group)}" for value, group in groups.items())
            found.append(f"ranks have different versions of {what}: {words}")
    return found


def _ranks(ranks: list[int]) -> str:
    shown = ", ".join(map(str, ranks[:8])) + (", ..." if len(ranks) > 8 else "")
    return f"rank {shown}" if len(ranks) == 1 else f"ranks {shown}"


def summary(ranks: Sequence[Seen]) -> str:
    """One line for the log: '2 x NVIDIA H100 80GB HBM3, driver 550.54.15, CUDA 12.4, NCCL 2.21.5, PyTorch 2.9.1'."""
    first = ranks[0]
    names = Counter(seen.name or "GPU" for seen in ranks)
    drivers = dict.fromkeys(seen.driver for seen in ranks if seen.driver)
    parts = [
        ", ".join(f"{count} x {name}" for name, count in names.items()),
        f"driver {' and '.join(drivers)}" if drivers else "",
        first.built,
        f"{'RCCL' if first.hip else 'NCCL'} {first.nccl}" if first.nccl else "",
        f"PyTorch {first.torch}",
    ]
    return ", ".join(filter(None, parts))


# -- the machine -----------------------------------------------------------------------------------------------------


def look(device: int = 0) -> Seen:
    """What this process finds; asks PyTorch, the kernel and the driver's library, and starts nothing."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Seen(
        torch=str(torch.__version__),
        cuda=torch.version.cuda,
        hip=torch.version.hip,
        gpus=gpus,
        name=torch.cuda.get_device_name(device) if device < gpus else "",
        driver=_driver(hip=torch.version.hip is not None),
        driver_cuda=None if torch.version.hip else driver_cuda(),
        nccl=_nccl(torch),
    )


def _nccl(torch: Any) -> str | None:
    if not torch.distributed.is_available() or not torch.distributed.is_nccl_available():
        return None
    return ".".join(map(str, torch.cuda.nccl.version()))


def driver_cuda(library: str = "libcuda.so.1") -> tuple[int, int] | None:
    """The newest CUDA that the driver knows, by its own library, which a pod with a GPU is given."""
    version = ctypes.c_int(0)
    try:
        if ctypes.CDLL(library).cuDriverGetVersion(ctypes.byref(version)) != 0:
            return None
    except (OSError, AttributeError):
        return None
    return cuda_version(version.value)


def cuda_version(number: int) -> tuple[int, int] | None:
    """CUDA writes 12.4 as 12040; 0 is no driver."""
    return (number // 1000, number % 1000 // 10) if number else None


def _driver(hip: bool) -> str:
    with contextlib.suppress(OSError):
        return _AMD.read_text().strip() if hip else driver_version(_NVIDIA.read_text())
    return ""


def driver_version(text: str) -> str:
    """Of what the kernel module of NVIDIA says of itself."""
    found = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", text)
    return found.group() if found else ""


def driver_words(kernel: str = "") -> str:
    """What the machine's own tools say of its GPU driver; `kernel`: what its kernel says."""
    for command in _DRIVER_COMMANDS:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        return f"{command[0]} says: {' '.join((done.stdout or done.stderr).split())[:300]}"
    if _KFD.exists() and not os.access(_KFD, os.R_OK | os.W_OK):
        return f"this user may not open {_KFD}: add the group that it has on the node to the pod's supplementalGroups"
    if kernel:
        return f"the kernel's driver is {kernel}, and the image has neither nvidia-smi nor rocm-smi to ask"
    return "there is neither nvidia-smi nor rocm-smi, so no GPU driver was mounted into the pod"
