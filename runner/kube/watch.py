"""Objects that fit a selector, kept up to date by a thread: a list, then a watch from there, again and again."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import traceback
from collections.abc import Callable
from typing import Any

from runner.errors import RunnerError
from runner.kube.client import Kube, KubeError, Resource
from runner.store.retry import Retry
from runner.untrusted.visible import one_line, visible

#: Whatever happens, the watch goes on: without it nobody would see anything any more, and nobody would say so.
POLICY = Retry(math.inf, first_s=1.0, longest_s=5.0, again=lambda error: True)
_log = logging.getLogger(__name__)


class Watched:
    """The objects of one kind that fit a selector, kept up to date by a thread.

    Args:
        kube: the API.
        what: kind of object.
        labels: selector.
        changed: called after each change, in the thread.
        saw: called with each object that is new or has changed.
        gone: called with an object that is no more.
    """

    def __init__(
        self,
        kube: Kube,
        what: Resource,
        labels: str,
        changed: Callable[[], None],
        saw: Callable[[dict[str, Any]], None] | None = None,
        gone: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
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
        """One of them, by its name: the newest, for another may have come before the end of the one before was told."""
        named = [each for each in self.objects() if each["metadata"]["name"] == name]
        return max(named, key=_age, default=None)

    def close(self) -> None:
        """Stop at the next change."""
        self._stop.set()

    # -- the thread ----------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        trouble, told = POLICY.trouble(stop=self._stop, tell=_tell), ""
        while not self._stop.is_set():
            try:
                if self.error is not None:
                    self._refresh()  # what was missed may be too old to be told again
                    self.error = None
                    trouble.over()
                self._follow()
                self._refresh()
            except KubeError as error:
                self.error = error  # tried again; what is known stays
            except Exception as error:
                self.error = KubeError(0, type(error).__name__, f"{type(error).__name__}: {error}")
                words = "".join(traceback.format_exception(error))
                if words != told:
                    _log.warning("watching %s again after:\n%s", self._what.plural, visible(words))
                told = words
            if self.error is not None:
                with contextlib.suppress(KubeError):  # it is to stop
                    trouble.wait(self.error)

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
        """Everybody is told of everything, also where one of them raises; then that is raised."""
        failed: Exception | None = None
        for tell, bodies in ((self._saw, fresh), (self._gone, lost)):
            for body in bodies if tell is not None else ():
                try:
                    tell(body)  # type: ignore[misc]
                except Exception as error:
                    failed = failed or error
        self._changed()
        if failed is not None:
            raise failed


def _age(body: dict[str, Any]) -> tuple[str, bool]:
    """Greater for what is younger; of two of one second, for the one that is not on its way out."""
    return body["metadata"]["creationTimestamp"], "deletionTimestamp" not in body["metadata"]


def _tell(error: RunnerError) -> None:
    """The API may be away for minutes, which the supervisor says itself where it matters."""
    _log.info("watching again: %s", one_line(str(error)))
