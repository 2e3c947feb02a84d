"""What one rank gets of its machine, and the check that a rank that was promised a GPU has one."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from runner.errors import RunFailed
from runner.spec import Group

_DRIVER_COMMANDS = (
    ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"),
    ("rocm-smi", "--showdriverversion"),
)


@dataclass(frozen=True)
class RankShape:
    """Args:
    cores: for the threads of a rank; None: what its machine has, shared by its ranks.
    gpus: of a rank, as the scheduler counts them.
    pretended: they are only numbers.
    """

    cores: int | None = None
    gpus: int = 0
    pretended: bool = False

    @property
    def resources(self) -> dict[str, float] | None:
        """For Ray's scheduler; None leaves it to Ray Train."""
        if self.cores is None:
            return None
        return {"CPU": float(self.cores), **({"GPU": float(self.gpus)} if self.gpus else {})}


def share_of_rank(group: Group, backend: str) -> RankShape:
    """A rank has one GPU, or one core, and its share of the machine's cores. On this machine nothing is set apart."""
    if backend != "kuberay":
        return RankShape()
    ranks = group.gpu or max(1, int(group.cpu))
    return RankShape(max(1, int(group.cpu) // ranks), 1 if group.gpu else 0, group.pretend_gpu)


def check_gpu(expected: bool) -> None:
    """Fail within seconds, with both versions, where the machine has a GPU that PyTorch cannot use.

    Raises:
        RunFailed: there is no usable GPU.
    """
    if not expected:
        return
    import torch

    if torch.cuda.is_available():
        return
    kinds = {"CUDA": torch.version.cuda, "ROCm": torch.version.hip}
    built = next((f"{kind} {version}" for kind, version in kinds.items() if version), "the CPU only")
    raise RunFailed(
        f"the group has GPUs, and PyTorch {torch.__version__} (built for {built}) finds none; {_driver()}. "
        "Use an image whose PyTorch fits the driver, or set pretend_gpu=True on the group to train on the CPU"
    )


def _driver() -> str:
    """What the machine says of its GPU driver."""
    for command in _DRIVER_COMMANDS:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        return f"{command[0]} says: {' '.join((done.stdout or done.stderr).split())[:300]}"
    return "there is neither nvidia-smi nor rocm-smi, so no GPU driver was mounted into the pod"
