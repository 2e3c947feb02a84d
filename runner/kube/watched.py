"""Objects that fit a selector, kept up to date by a thread: a list, then a watch from there, again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from runner.kube.client import Kube, KubeError, Resource

#: Seconds before the next try when the API does not answer.
RETRY_S = 1.0


class Watched:
    """Args:
    kube: the API.
    what: kind of object.
    labels: selector.
    changed: called after each change, in the thread.
    saw: called with each object that is new or has changed.
    gone: called with an object that is no more.
    """

    def __init__(
        self, kube: Kube, what: Resource, labels: str, changed: Callable[[], None],
        saw: Callable[[dict[str, Any]], None] | None = None, gone: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:  # fmt: skip
        self._kube, self._what, self._labels = kube, what, labels
        self._changed, self._saw, self._gone = changed, saw, gone
        self._objects: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.error: KubeError | None = None
        self._refresh()
        threading.Thread(target=self._loop, name=f"watch-{what.plural}", daemon=True).start()

    def objects(self) -> list[dict[str, Any]]:
        """As they are known now."""
        with self._lock:
            return list(self._objects.values())

    def get(self, name: str) -> dict[str, Any] | None:
        """One of them, by its name."""
        return next((each for each in self.objects() if each["metadata"]["name"] == name), None)

    def close(self) -> None:
        """Stop at the next change."""
        self._stop.set()

    # -- the thread ----------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                if self.error is not None:
                    self._refresh()  # what was missed may be too old to be told again
                    self.error = None
                self._follow()
                self._refresh()
            except KubeError as error:
                self.error = error  # tried again; what is known stays
                self._stop.wait(RETRY_S)

    def _follow(self) -> None:
        for event in self._kube.watch(self._what, self._labels, self._version):
            if self._stop.is_set():
                return
            body = event["object"]
            with self._lock:
                if event["type"] == "DELETED":
                    self._objects.pop(body["metadata"]["uid"], None)
                else:
                    self._objects[body["metadata"]["uid"]] = body
            self._tell(*(([], [body]) if event["type"] == "DELETED" else ([body], [])))

    def _refresh(self) -> None:
        items, self._version = self._kube.snapshot(self._what, self._labels)
        with self._lock:
            before, self._objects = self._objects, {item["metadata"]["uid"]: item for item in items}
            lost = [body for uid, body in before.items() if uid not in self._objects]
        self._tell(items, lost)

    def _tell(self, fresh: list[dict[str, Any]], lost: list[dict[str, Any]]) -> None:
        if self._saw is not None:
            for body in fresh:
                self._saw(body)
        if self._gone is not None:
            for body in lost:
                self._gone(body)
        self._changed()
