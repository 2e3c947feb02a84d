"""What one rank gets of its machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runner.spec.job import Group

#: What Ray counts on the machines of a run that are there for its transforms alone: one for each core. They have no
#: "CPU", so that no rank is placed there.
DATA_RESOURCE = "lake-runner-data"


@dataclass(frozen=True)
class RankShape:
    """The share of a machine that one rank gets.

    Args:
        cores: for the threads of a rank; None: what its machine has, shared by its ranks.
        gpus: of a rank, as the scheduler counts them.
        pretended: they are only numbers.
        threads: for one operation, where the user has said how many; None: `cores`.
    """

    cores: int | None = None
    gpus: int = 0
    pretended: bool = False
    threads: int | None = None

    @property
    def resources(self) -> dict[str, float] | None:
        """For Ray's scheduler; None leaves it to Ray Train."""
        if self.cores is None:
            return None
        return {"CPU": float(self.cores), **({"GPU": float(self.gpus)} if self.gpus else {})}


def share_of_rank(group: Group, told: Mapping[str, str], *, one_machine: bool) -> RankShape:
    """A rank has one GPU, or one core, and its share of the machine's cores.

    Args:
        told: the variables that the user has set for the rank's process; Ray sets some of its own, which say nothing.
        one_machine: where no scheduler sets anything apart.
    """
    if one_machine:
        return RankShape(threads=told_threads(told))
    ranks = group.gpu or max(1, int(group.cpu))
    return RankShape(max(1, int(group.cpu) // ranks), 1 if group.gpu else 0, group.pretend_gpu, told_threads(told))


def told_threads(environment: Mapping[str, str]) -> int | None:
    """The number in the user's OMP_NUM_THREADS (of several, the first) or MKL_NUM_THREADS; None where there is none."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        first = environment.get(name, "").split(",")[0].strip()
        if first.isdigit() and int(first) > 0:
            return int(first)
    return None
