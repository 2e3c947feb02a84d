"""What a plan needs to know of the machines: how they take up the stages of a job."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """How a kind of machines takes up stages.

    Args:
        one_machine: everything happens on the machine of who submits, where no scheduler sets anything apart.
        one_leg: all stages share the machines that are there; otherwise each shape of machine has a leg of its own.
        grows: a stage may begin with its fewest workers, and machines come and go with its work.
        lead_s: seconds before the end of a leg at which the machines of the next may be asked for; 0: never.
        queue, priority: that the machines are asked for with.
    """

    one_machine: bool = False
    one_leg: bool = False
    grows: bool = True
    lead_s: float = 0.0
    queue: str | None = None
    priority: str | None = None
