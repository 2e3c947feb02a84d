"""How runs ended, a row each, printed after the tests: the state, the time to it, `why`'s answers, the receipt."""

from __future__ import annotations

import dataclasses
import re
import time

from runner.client.run import Run
from runner.kube.client import Kube
from runner.record import RunState
from runner.record.entries import Ended
from tests.cluster import kit

#: The rows of this session.
SEEN: list[End] = []
HEADER = (
    "what happens",
    "ends as",
    "after s",
    "machines asked to go, gone after s",
    "GPU s held, used",
    "`why` meanwhile",
)
#: A run's identity, and what Kubernetes and KubeRay put behind it.
_NAMES = re.compile(r"\br\d{6}-\d{6}\w*(-[\w-]+)?")


@dataclasses.dataclass(frozen=True)
class End:
    """One run's end.

    Args:
        what: the fault, in words.
        seconds: from the moment of the fault to the run's end.
        said: what `why` answered in between, in order.
    """

    what: str
    state: str
    seconds: float
    receipt: Ended
    said: tuple[str, ...]

    def row(self) -> tuple[str, ...]:
        """Words for the columns of HEADER."""
        gone, used = self.receipt.teardown_s, self.receipt.gpu_seconds_used
        held = self.receipt.remains.get("gpu_seconds")
        return (
            self.what, self.state, f"{self.seconds:.0f}",
            "" if gone is None else f"{gone['asked']:.1f}, {gone['gone']:.1f}",
            "" if held is None else f"{held:.0f}, {used:.0f}", "; ".join(self.said) or "nothing",
        )  # fmt: skip


def table() -> list[str]:
    """The rows of this session as Markdown."""
    rows = [HEADER, ("---",) * len(HEADER), *(each.row() for each in SEEN)]
    return [f"| {' | '.join(row)} |" for row in rows]


def check_end(kube: Kube, run: Run, state: RunState, fault: str = "", said: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The run ends in `state`, its receipt counts nothing left, and so do we.

    Args:
        fault: what has just happened to it; makes a row of it.
        said: what `why` has answered since then.

    Returns:
        What `why` answered until the end.
    """
    since, deadline, answers = time.time(), time.monotonic() + 300, list(said)
    while not run.wait(timeout_s=3, check=False).ended and time.monotonic() < deadline:
        answers += [reason.waits_for for reason in run.why()]
    view = run.view()
    assert view.state is state, "\n".join(kit.story(run))
    receipt = view.receipt
    assert receipt is not None
    answers = list(dict.fromkeys(_NAMES.sub("RUN", answer).strip() for answer in answers))
    if fault:
        # It may have ended before the fault was done.
        ended = [entry.at for entry in run.bundle.log.read() if isinstance(entry.event, Ended)][-1]
        SEEN.append(End(fault, str(state), max(0.0, ended - since), receipt, tuple(answers)))
    remains = receipt.remains
    assert (remains["pods"], remains["gpus"], remains["ray_jobs"]) == (0, 0, 0)
    assert not kit.left(kube, run)
    return tuple(answers)
