"""What one rank gets of its machine."""

from __future__ import annotations

from dataclasses import dataclass

from runner.spec import Cluster, Group


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


def share_of_rank(group: Group, cluster: Cluster) -> RankShape:
    """A rank has one GPU, or one core, and its share of the machine's cores. On this machine nothing is set apart."""
    if cluster.one_machine:
        return RankShape()
    ranks = group.gpu or max(1, int(group.cpu))
    return RankShape(max(1, int(group.cpu) // ranks), 1 if group.gpu else 0, group.pretend_gpu)
