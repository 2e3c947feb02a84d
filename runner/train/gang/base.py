"""The seam between a training stage and whatever starts its ranks: this process, local processes, or Ray.

A gang starts W ranks of `runner.train.rank`, waits for all of them and returns what rank 0 returned. If one fails, the
others are ended, and the failure that came first is raised.
"""

from __future__ import annotations

from typing import Any, Protocol

from runner.spec import Train
from runner.worker.scope import Scope


class Gang(Protocol):
    """What `run_train` needs of a launcher."""

    def run(self, stage: Train, scope: Scope, argument: dict[str, Any]) -> dict[str, Any]:
        """Run the stage's function on every rank; blocks until all have ended.

        Args:
            argument: small JSON values for `rank.run_rank`, the same for every rank.

        Returns:
            The result of rank 0.

        Raises:
            UserCodeError: the function raised; the first rank that did, with its traceback.
            WorkerLost: a rank died without a word; says which and how.
            Interrupted: `scope.stop` was set.
            RunnerError: whatever else of ours a rank raised (StoreError, StageTimeout, DataError, ...).
        """
        ...


def warm_up() -> None:
    """Begin to import torch in a process of its own, for the local gang. The driver calls it as early as it can."""
    from runner.train.gang import server as gang_server

    gang_server.warm_up()
