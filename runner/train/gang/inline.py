"""The gang of one: the calling process. A debugger works, and an exception is the user's own."""

from __future__ import annotations

from typing import Any

from runner.spec import Train
from runner.worker.scope import Scope


class InlineGang:
    """World size 1, with the global batch that the stage's `workers` would have together."""

    def run(self, stage: Train, scope: Scope, argument: dict[str, Any]) -> dict[str, Any]:
        """See `Gang.run`; the user's exception passes through unchanged."""
        from runner.train.place import Place
        from runner.train.rank import run_rank

        return run_rank(Place(), stage, scope, argument)
