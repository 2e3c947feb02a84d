"""Objects kept up to date by a list and watches, against an API that says what a test lets it say."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from runner.kube import names
from runner.kube import watch as watched
from runner.kube.client import PODS, Kube, KubeError, Resource
from runner.kube.watch import Watched
from tests.unit.kube import kit

WAIT_S = 5.0


class Scripted(Kube):
    """Lists `items`; a watch gives what is put into `events`: None ends it, an error breaks it."""

    def __init__(self, *items: kit.Body) -> None:
        self.namespace = "default"
        self.items = list(items)
        self.version = 1
        self.events: queue.Queue[Any] = queue.Queue()
        self.watched_from: list[str] = []

    def snapshot(self, what: Resource, labels: str = "") -> tuple[list[kit.Body], str]:
        return list(self.items), str(self.version)

    def watch(self, what: Resource, labels: str, version: str, seconds: float = 60.0) -> Iterator[kit.Body]:
        self.watched_from.append(version)
        while (event := self.events.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event


class Story:
    """What a Watched has told, and the wait for its next word."""

    def __init__(self, kube: Scripted) -> None:
        self.saw: list[str] = []
        self.gone: list[str] = []
        self._changed = threading.Semaphore(0)
        self.kube = kube
        self.watched = Watched(kube, PODS, "x", self._changed.release, self._saw, self._gone)
        self.next()  # of the first list

    def _saw(self, body: kit.Body) -> None:
        self.saw.append(body["metadata"]["name"])

    def _gone(self, body: kit.Body) -> None:
        self.gone.append(body["metadata"]["name"])

    def next(self) -> None:
        assert self._changed.acquire(timeout=WAIT_S)

    @property
    def names(self) -> list[str]:
        return sorted(body["metadata"]["name"] for body in self.watched.objects())


@pytest.fixture
def kube(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    monkeypatch.setattr(watched, "POLICY", dataclasses.replace(watched.POLICY, longest_s=0.001))
    made = Scripted(pod("a"))
    yield made
    made.events.put({"type": "MODIFIED", "object": pod("end")})  # a watch that was closed ends with the next change


def pod(name: str, **labels: Any) -> kit.Body:
    return kit.pod(name, names.WORKER, **labels)


def test_a_list_and_then_its_changes(kube: Scripted) -> None:
    """What the list has is there at once; the watch goes on from the list's version."""
    story = Story(kube)
    assert (story.names, story.saw) == (["a"], ["a"])
    kube.events.put({"type": "ADDED", "object": pod("b")})
    story.next()
    assert (story.names, story.saw, kube.watched_from) == (["a", "b"], ["a", "b"], ["1"])
    story.watched.close()


def test_a_change_replaces_what_was_known(kube: Scripted) -> None:
    """An object is known by its uid and has its newest state."""
    story = Story(kube)
    kube.events.put({"type": "MODIFIED", "object": pod("a", phase="Failed")})
    story.next()
    found = story.watched.get("a")
    assert found is not None
    assert found["status"]["phase"] == "Failed"
    assert story.watched.get("b") is None
    story.watched.close()


def test_what_is_deleted_is_gone(kube: Scripted) -> None:
    """A deletion takes the object out and is told once, with its last state."""
    story = Story(kube)
    kube.events.put({"type": "DELETED", "object": pod("a")})
    story.next()
    assert (story.names, story.saw, story.gone) == ([], ["a"], ["a"])
    story.watched.close()


def test_a_watch_that_ends_is_followed_by_a_list(kube: Scripted) -> None:
    """What came and went while nobody watched is told after the server has ended the watch."""
    story = Story(kube)
    kube.items, kube.version = [pod("b")], 7
    kube.events.put(None)
    story.next()
    assert (story.names, story.gone) == (["b"], ["a"])
    kube.events.put({"type": "ADDED", "object": pod("c")})
    story.next()
    assert (story.names, kube.watched_from) == (["b", "c"], ["1", "7"])
    story.watched.close()


@pytest.mark.parametrize("status", [0, 410], ids=["no answer", "too old"])
def test_an_error_loses_nothing(kube: Scripted, status: int) -> None:
    """After a broken watch everything is listed again, from which the next watch goes on, and the error is over."""
    story = Story(kube)
    kube.items, kube.version = [pod("b")], 9
    kube.events.put(KubeError(status, "Expired", "too old resource version: 1 (9)"))
    story.next()
    assert (story.names, story.saw, story.gone) == (["b"], ["a", "b"], ["a"])
    kube.events.put({"type": "DELETED", "object": pod("b")})
    story.next()
    assert (story.names, story.gone, kube.watched_from) == ([], ["a", "b"], ["1", "9"])
    assert story.watched.error is None
    story.watched.close()


def test_while_the_api_is_away_what_is_known_stays(kube: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the API answers again the objects are as they were, and the error can be read."""
    story = Story(kube)
    tried, back = threading.Semaphore(0), threading.Event()
    listed = kube.snapshot

    def away(what: Resource, labels: str = "") -> tuple[list[kit.Body], str]:
        tried.release()
        if back.is_set():
            return listed(what, labels)
        raise KubeError(0, "Unreachable", "no answer")

    monkeypatch.setattr(kube, "snapshot", away)
    kube.events.put(KubeError(0, "Unreachable", "no answer"))
    for _ in range(3):
        assert tried.acquire(timeout=WAIT_S)
    assert (story.names, story.gone) == (["a"], [])
    assert story.watched.error is not None
    back.set()
    story.next()
    assert (story.names, story.gone) == (["a"], [])
    story.watched.close()


def test_an_answer_that_is_none_is_survived(kube: Scripted, capsys: pytest.CaptureFixture[str]) -> None:
    """A page of a proxy where JSON was to be: it is told on standard error, everything is listed, the watch goes on."""
    story = Story(kube)
    kube.items, kube.version = [pod("b")], 9
    kube.events.put(ValueError("Expecting value: line 1"))
    story.next()
    kube.events.put({"type": "ADDED", "object": pod("c")})
    story.next()
    assert (story.names, story.gone, kube.watched_from) == (["b", "c"], ["a"], ["1", "9"])
    assert "watching pods again after" in capsys.readouterr().err
    assert story.watched.error is None
    story.watched.close()


def test_who_fails_when_told_keeps_no_other_from_it(kube: Scripted, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are told all the same, then everything is listed and told again."""
    story = Story(kube)
    saw, failing = story.watched._saw, [True]

    def fail_once(body: kit.Body) -> None:
        if body["metadata"]["name"] == "b" and failing:
            failing.pop()
            raise LookupError("b")
        assert saw is not None
        saw(body)

    story.watched._saw = fail_once
    looked_at, listed = threading.Event(), kube.snapshot

    def list_later(what: Resource, labels: str = "") -> tuple[list[kit.Body], str]:
        assert looked_at.wait(WAIT_S)
        return listed(what, labels)

    kube.snapshot = list_later  # type: ignore[method-assign]
    kube.items, kube.version = [pod("b"), pod("c")], 4
    kube.events.put({"type": "ADDED", "object": pod("b")})
    story.next()
    assert (story.names, story.saw) == (["a", "b"], ["a"])
    looked_at.set()
    story.next()
    assert (story.names, story.saw, story.gone) == (["b", "c"], ["a", "b", "c"], ["a"])
    assert "LookupError" in capsys.readouterr().err
    story.watched.close()


def test_of_two_objects_of_one_name_the_newest_counts(kube: Scripted) -> None:
    """One that was replaced may be there still, on its way out."""
    new, old = pod("a"), pod("a")
    old["metadata"] |= {"uid": "old", "deletionTimestamp": kit.AT, "creationTimestamp": "2026-11-23T22:20:50Z"}
    for items in ([old, new], [new, old]):
        kube.items = items
        story = Story(kube)
        assert story.watched.get("a") is new
        story.watched.close()
        old["metadata"]["creationTimestamp"] = kit.AT  # within the same second


def test_a_first_list_that_fails_is_the_callers() -> None:
    """Where the API is away from the start, making a Watched raises."""
    kube = Scripted()

    def refused(what: Resource, labels: str = "") -> Any:
        raise KubeError(403, "Forbidden", "pods is forbidden")

    kube.snapshot = refused  # type: ignore[method-assign]
    with pytest.raises(KubeError):
        Watched(kube, PODS, "x", lambda: None)
