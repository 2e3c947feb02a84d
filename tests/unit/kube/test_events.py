"""The API's events about a run, gathered in its bundle before the API forgets them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner.errors import StoreAway
from runner.kube import events
from runner.kube.client import KubeError
from runner.record import Bundle
from runner.store import Store
from tests.unit.kube import kit
from tests.unit.kube.kit import RUN

LATER = "2026-11-23T22:30:00Z"


@pytest.fixture
def bundle(store: Store) -> Bundle:
    return Bundle(store, RUN)


def event(mark: str, message: str, last: str = kit.AT, count: int = 1, of: str = f"{RUN}-0-1-x") -> kit.Body:
    """One of the API's, whose name ends in a mark."""
    made = {**kit.event("Pod", of, "FailedScheduling", message, kit.AT, last), "count": count}
    made["metadata"]["name"] = f"{of}.{mark}"
    return made


def kept(bundle: Bundle) -> Any:
    return json.loads(bundle.store.get(events.KEY))


def words(bundle: Bundle) -> list[tuple[str, int]]:
    return [(each["message"], each["count"]) for each in kept(bundle)]


def test_events_of_a_run_add_up(bundle: Bundle) -> None:
    """What the API has forgotten stays, what was seen again is counted up, others' are left out."""
    other = event("d", "no", of="r261123-000000aa-other-xx-0-1")
    events.keep(kit.FakeKube(event("a", "first"), event("b", "second", LATER), other), bundle)
    assert words(bundle) == [("first", 1), ("second", 1)]
    events.keep(kit.FakeKube(event("b", "second", "2026-11-23T22:40:00Z", 7), event("c", "third", LATER)), bundle)
    assert words(bundle) == [("first", 1), ("third", 1), ("second", 7)]
    events.keep(kit.FakeKube(event("b", "second", LATER, 2)), bundle)  # an answer that is older than what is kept
    assert words(bundle)[-1] == ("second", 7)


def test_nothing_new_is_not_written_again(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it can be asked for often."""
    kube = kit.FakeKube(event("a", "first"))
    events.keep(kube, bundle)
    monkeypatch.setattr(bundle.store, "put", lambda *_: pytest.fail("was written"))
    events.keep(kube, bundle)


def test_what_lies_there_and_is_no_list_of_events_holds_nobody_up(bundle: Bundle) -> None:
    """Whoever may write the store puts JSON there that ends the parser: machines are taken away after this."""
    bundle.store.put(events.KEY, b"[" * 1_000_000)
    events.keep(kit.FakeKube(event("a", "first")), bundle)
    assert words(bundle) == [("first", 1)]


def test_without_the_right_to_see_events_what_is_kept_stays(bundle: Bundle) -> None:
    """Where nothing is kept, that is said; what was kept by an older version counts."""
    refused = kit.FakeKube(refused={"/api/v1/namespaces/default/events": kit.forbidden("events")})
    events.keep(refused, bundle)
    assert "forbidden" in kept(bundle)["error"]
    events.keep(kit.FakeKube(event("a", "first")), bundle)
    events.keep(refused, bundle)
    assert words(bundle) == [("first", 1)]
    (old,) = kept(bundle)
    old.pop("name")
    bundle.store.put(events.KEY, json.dumps([old]).encode())
    events.keep(kit.FakeKube(event("b", "second", LATER)), bundle)
    assert words(bundle) == [("first", 1), ("second", 1)]


@pytest.mark.parametrize("error", [StoreAway("no route"), ValueError("no JSON"), KubeError(0, "Unreachable", "none")])
def test_trouble_with_events_is_nobodys(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    """Neither store nor API, nor an answer of another shape, can make it raise."""

    def fail(*_: object) -> None:
        raise error

    kube = kit.FakeKube(event("a", "first"))
    if isinstance(error, StoreAway):
        monkeypatch.setattr(bundle.store, "put", fail)
    else:
        monkeypatch.setattr(kube, "select", fail)
    events.keep(kube, bundle)
    assert isinstance(error, KubeError) or "the events are not kept" in capsys.readouterr().err
