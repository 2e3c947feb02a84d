"""What runs have left on a cluster: found by label, judged by the bundle that its annotation names.

Whoever may make a Job may write any label and any annotation. So what names another store is another run's, however it
calls itself; no store is opened that is of another kind than the client's own; and one that cannot be judged, whatever
the reason, holds up nobody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from runner.errors import StoreError
from runner.kube import client, names, pods
from runner.kube.client import Kube, KubeError
from runner.record import Bundle, fold
from runner.record.entries import GivenUp
from runner.record.index import Index
from runner.store import Store
from runner.untrusted.names import RUN_ID

_KINDS = ((client.JOBS, "Job"), (client.RAY_JOBS, "RayJob"), (client.RAY_CLUSTERS, "RayCluster"), (client.PODS, "pod"))
#: Seconds for which a new run is left alone, whatever its bundle says: its client may still be writing it.
YOUNG_S = 180.0
#: Seconds after which a run that has only a folder in its store will not be submitted any more.
UNFINISHED_S = 3600.0


@dataclass
class Leftover:
    """What one run has on a cluster.

    Args:
        namespace, run, store: where and whose.
        objects: (kind, name).
        uids: of the objects: what has taken the name of one meanwhile is another.
        owned: those of them that others of them own: they go with these.
        supervised: its supervisor's Job has not ended.
        gpus: that its pods hold.
        judgement: 'working', 'young', 'ended', 'nobody' (no such run in its store) or 'unknown' (its store does not
            answer, or is another of that name).
        trouble: why it could not be judged, where that is no store that does not answer.
    """

    namespace: str
    run: str
    store: str = ""
    created: float = 0.0
    objects: list[tuple[str, str]] = field(default_factory=list)
    uids: dict[tuple[str, str], str] = field(default_factory=dict)
    owned: set[tuple[str, str]] = field(default_factory=set)
    supervised: bool = False
    gpus: int = 0
    judgement: str = "unknown"
    trouble: str = ""

    @property
    def removable(self) -> bool:
        """Whether nobody needs it."""
        return self.judgement in ("ended", "nobody") and bool(self.objects)


def find(
    kube: Kube, judge: Callable[[str, str], str], now: float, everywhere: bool = False, named: Collection[str] = ()
) -> list[Leftover]:
    """Everything of runs, judged.

    Args:
        judge: (store, run id) -> 'working', 'ended', 'nobody' or 'unknown'.
        now: seconds since 1970.
        everywhere: in every namespace, not only the client's.
        named: what the cluster's groups call their GPUs.
    """
    found: dict[tuple[str, str, str], Leftover] = {}
    for what, kind in _KINDS:
        for body in kube.select(what, names.RUN, everywhere=everywhere):
            _add(_of(found, body), body, kind, named)
    for left in found.values():
        left.judgement = "young" if now - left.created < YOUNG_S else _judged(left, judge)
        if left.judgement == "ended":
            left.objects = [(kind, name) for kind, name in left.objects if not _goes_by_itself(kind, name, left)]
    return sorted(found.values(), key=lambda left: (left.namespace, left.run, left.store))


def _judged(left: Leftover, judge: Callable[[str, str], str]) -> str:
    """A supervisor without a bundle leaves within a minute. One that works has a bundle, in a store that is reached by
    this URL from there: from here it leads to another.
    """
    try:
        word = judge(left.store, left.run)
    except Exception as error:  # whatever somebody has written there, the others are to be judged as well
        left.trouble = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return "unknown"
    return "unknown" if word == "nobody" and left.supervised else word


def _of(found: dict[tuple[str, str, str], Leftover], body: dict[str, Any]) -> Leftover:
    """Whose an object is: of the run and the store that it names, or that its owner does (pods name no store)."""
    metadata = body["metadata"]
    namespace, run = metadata["namespace"], metadata["labels"][names.RUN]
    store = (metadata.get("annotations") or {}).get(names.STORE)
    same = [left for left in found.values() if (left.namespace, left.run) == (namespace, run)]
    if store is None:
        owners = {owner.get("uid") for owner in metadata.get("ownerReferences") or []}
        owning = [left for left in same if owners & set(left.uids.values())] or same
        store = owning[0].store if len(owning) == 1 else ""
    return found.setdefault((namespace, run, store), Leftover(namespace, run, store))


def _add(left: Leftover, body: dict[str, Any], kind: str, named: Collection[str]) -> None:
    metadata = body["metadata"]
    left.created = max(left.created, pods.seconds(metadata["creationTimestamp"]))
    if kind == "Job" and metadata["name"] == left.run:
        left.supervised = not _is_over(body)
    if kind == "pod":
        if (body.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return
        left.gpus += pods.gpus(body, named)
    key = (kind, metadata["name"])
    if any((owner.get("kind"), owner.get("name")) in left.objects for owner in metadata.get("ownerReferences") or []):
        left.owned.add(key)
    left.objects.append(key)
    left.uids[key] = metadata["uid"]


def _is_over(job: dict[str, Any]) -> bool:
    ended = any(pods.condition(job, kind).get("status") == "True" for kind in ("Complete", "Failed"))
    return ended or bool(job["metadata"].get("deletionTimestamp"))


def _goes_by_itself(kind: str, name: str, left: Leftover) -> bool:
    """The supervisor's finished Job is kept for a while, and removed by its ttl."""
    return kind == "Job" and name == left.run and len(left.objects) == 1 and not left.supervised


def remove(kube: Kube, left: Leftover) -> list[str]:
    """Delete a leftover, owners first. Pods go with theirs: to delete one is a right of its own, which few have.

    Returns:
        What could not be deleted, in words.
    """
    own = kube if kube.namespace == left.namespace else kube.at(left.namespace)
    kinds = {kind: what for what, kind in _KINDS}
    failed = []
    for kind, name in left.objects:
        if kind == "pod" and (kind, name) in left.owned:
            continue
        try:
            own.delete(kinds[kind], name, uid=left.uids.get((kind, name)))
        except KubeError as error:
            failed.append(f"{kind} {name}: {error.message}")
    return failed


def by_log(options: Mapping[str, Any], scheme: str | None = None) -> Callable[[str, str], str]:
    """A judge that reads the log of a run in the store that its objects name.

    Args:
        options: of the store, for fsspec.
        scheme: of stores that may be opened, such as 's3'; None: any. An annotation that anybody wrote must not choose
            what is spoken, to whom.
    """

    def judge(url: str, run_id: str) -> str:
        if not url or "::" in url or scheme not in (None, urlsplit(url).scheme) or not RUN_ID.fits(run_id):
            return "unknown"
        store = Store(url, dict(options))
        try:
            entries = Bundle(store, run_id).log.read()
            if not entries:  # where there is no run at all, it may be another store of that name that is looked at
                return "nobody" if any(Index(store).newest_ids()) else "unknown"
        except StoreError:
            return "unknown"
        if isinstance(entries[0].event, GivenUp):
            return "ended"  # before it had begun
        return "ended" if fold(entries).state.ended else "working"

    return judge
