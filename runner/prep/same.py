"""The transform that changes nothing: what `runner data rewrite` runs, so that data is written anew as it is."""

from __future__ import annotations

from typing import Any

#: By what another process loads it: it belongs to runner, not to a project.
REFERENCE = ("same", "runner.prep.same")


def same(batch: Any, config: Any) -> Any:
    """The batch."""
    return batch
