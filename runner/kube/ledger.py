"""What a run's machines have cost, what ended them, and which were lost, from the pods as they were seen."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from typing import Any

from runner.errors import Cause
from runner.kube import names, pods
from runner.record import Bundle
from runner.record.bundle import WORDS_BYTES
from runner.record.endings import Ending
from runner.untrusted.shapes import count, mapping, maybe, moment, read, tuple_of
from runner.untrusted.skipped import readable

#: uid of a pod -> from, until (seconds since 1970) and GPUs.
_Held = dict[str, tuple[float, float | None, int]]
_KEPT = mapping(tuple_of(moment, maybe(moment), count))


class Ledger:
    """GPU seconds held, from the moment a pod got its machine until it was gone; causes of death, once each; and the
    pods of the current attempt that somebody else has removed.

    The seconds are kept in the bundle too, for the supervisors to come: from each resume on anew, as receipts are.

    Args:
        named: what the run's groups call their GPUs.
        bundle: of the run.
    """

    def __init__(self, named: Collection[str] = (), bundle: Bundle | None = None) -> None:
        self._named, self._bundle = named, bundle
        self._held: _Held = {}
        self._kept = ""
        self._attempt = ""
        self.endings: list[Ending] = []
        self.lost: list[str] = []
        self.out_of_memory = False

    def load(self, there: Collection[str]) -> None:
        """Go on from what the supervisor before has kept.

        Args:
            there: uids of the pods that are there now; others have gone meanwhile.
        """
        kept: _Held = readable(self._read_kept, {})
        for uid, (began, until, gpus) in kept.items():
            ended = time.time() if until is None and uid not in there else until
            self._held.setdefault(uid, (began, ended, gpus))

    def _read_kept(self) -> _Held:
        if self._bundle is None:
            return {}
        key = self._key()
        try:
            data = self._bundle.store.get(key, WORDS_BYTES)
        except FileNotFoundError:
            return {}
        kept: _Held = read(data, _KEPT, f"{self._bundle.store.url}/{key}")
        return kept

    def keep(self) -> None:
        """Into the bundle, if there is news."""
        text = json.dumps(dict(self._held), sort_keys=True)
        if self._bundle is not None and self._held and text != self._kept:
            self._bundle.store.put(self._key(), text.encode())
            self._kept = text

    def _key(self) -> str:
        assert self._bundle is not None
        return f"ledger/{sum(entry.kind == 'resumed' for entry in self._bundle.log.read())}.json"

    def turn(self, attempt: str) -> None:
        """From now on another attempt's pods count: those whose names begin with that of its RayJob."""
        self._attempt = attempt
        self.endings, self.lost, self.out_of_memory = [], [], False

    def saw(self, pod: dict[str, Any], wanted: bool = False) -> None:
        """Take down what a pod says; `wanted`: nobody of ours is about to remove it."""
        began, gpus = pods.scheduled_at(pod), pods.gpus(pod, self._named)
        if began is not None and gpus:
            self._held.setdefault(pod["metadata"]["uid"], (began, None, gpus))
        if not self._attempt or not pod["metadata"]["name"].startswith(f"{self._attempt}-"):
            return
        if pod["metadata"]["labels"].get(names.ROLE) == names.DATA:
            return  # the attempt goes on without it
        ending = pods.ending(pod)
        if ending is not None:
            self._note(ending)
            self.out_of_memory = self.out_of_memory or ending.cause is Cause.OUT_OF_MEMORY
        if wanted and (pod["metadata"].get("deletionTimestamp") or _failed(pod)):
            self._lose(pod, ending)

    def gone(self, pod: dict[str, Any], wanted: bool = False) -> None:
        """Take down its end."""
        self.saw(pod)
        uid = pod["metadata"]["uid"]
        if uid in self._held:
            began, _, gpus = self._held[uid]
            self._held[uid] = (began, time.time(), gpus)
        if wanted:
            self._lose(pod, pods.ending(pod))

    def gpu_seconds(self, now: float) -> float:
        """Up to now."""
        return round(sum(((until or now) - began) * gpus for began, until, gpus in self._held.values()), 1)

    @property
    def causes(self) -> list[str]:
        """The endings in words."""
        return [ending.words for ending in self.endings]

    def lose(self, words: str) -> None:
        """Take down that a machine of the current attempt went, and how."""
        if words not in self.lost:
            self.lost.append(words)
        self._note(Ending(words, Cause.MACHINE_LOST))

    def _lose(self, pod: dict[str, Any], ending: Ending | None) -> None:
        self.lose(ending.words if ending is not None else f"pod {pod['metadata']['name']} was deleted")

    def _note(self, ending: Ending) -> None:
        """Once each; whoever has said it first knows its cause."""
        if ending.words not in self.causes:
            self.endings.append(ending)


def _failed(pod: dict[str, Any]) -> bool:
    return (pod.get("status") or {}).get("phase") == "Failed"
