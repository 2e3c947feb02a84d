"""What a run's machines have cost and what ended them, from the pods as they were seen."""

from __future__ import annotations

import time
from typing import Any

from runner.kube import pods


class Ledger:
    """GPU seconds held, from the moment a pod got its machine until it was gone; and causes of death, once each."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[float, float | None, int]] = {}  # uid -> (from, until, GPUs)
        self.causes: list[str] = []

    def saw(self, pod: dict[str, Any]) -> None:
        """Take down what a living pod says."""
        began, gpus = pods.scheduled_at(pod), pods.gpus(pod)
        if began is not None and gpus:
            self._held.setdefault(pod["metadata"]["uid"], (began, None, gpus))
        cause = pods.cause(pod)
        if cause is not None and cause not in self.causes:
            self.causes.append(cause)

    def gone(self, pod: dict[str, Any]) -> None:
        """Take down its end."""
        self.saw(pod)
        uid = pod["metadata"]["uid"]
        if uid in self._held:
            began, _, gpus = self._held[uid]
            self._held[uid] = (began, time.time(), gpus)

    def gpu_seconds(self, now: float) -> float:
        """Up to now."""
        return round(sum((until or now) - began for began, until, gpus in self._held.values() for _ in range(gpus)), 1)
