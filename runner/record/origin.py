"""Whose a run is, and what going on with it would start: asked before any code of a bundle runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runner.errors import NotYours
from runner.record import trust
from runner.record.bundle import LOCK, Bundle
from runner.record.entries import Resumed, Submitted
from runner.record.run_spec import KubernetesSpec


@dataclass(frozen=True)
class Origin:
    """Who last put a run's spec and code into its bundle, by what the log says.

    Args:
        by: a name, which anybody could have written.
        sealed: what the bundle holds by right; empty where the log does not say.
        is_mine: whether this user has signed that.
    """

    by: str
    sealed: trust.Seal
    is_mine: bool

    @classmethod
    def of(cls, bundle: Bundle) -> Origin:
        """As the log of a bundle has it."""
        by, sealed, signed = "nobody", None, None
        for entry in bundle.log.read():
            if isinstance(entry.event, Submitted | Resumed):
                by, sealed, signed = str(entry.event.by), entry.event.sealed, entry.event.signed
        found = _seal(sealed)
        return cls(by, found, trust.is_mine(bundle.run_id, found, signed))


def _seal(value: Any) -> trust.Seal:
    """What an entry has as a seal, which anybody could have written."""
    if not isinstance(value, Mapping) or not all(isinstance(part, str) for item in value.items() for part in item):
        return {}
    kept = {key: found for key, found in value.items() if key == LOCK or key.startswith(("spec", "code"))}
    return kept if len(kept) == len(value) and {"spec", "code"} == {key[:4] for key in kept if key != LOCK} else {}


@contextlib.contextmanager
def acting_on(bundle: Bundle, sealed: trust.Seal) -> Iterator[None]:
    """Meanwhile this process takes for the bundle's spec, code and lock nothing but what was sealed."""
    before, bundle.sealed = bundle.sealed, dict(sealed)
    try:
        yield
    finally:
        bundle.sealed = before


def take(bundle: Bundle, *, trusted: bool) -> Origin:
    """Whose the bundle is, if this process may act on it.

    Args:
        trusted: the user has said so.

    Raises:
        NotYours: it is not signed by this user, and `trusted` is not given. Nothing of it was loaded.
    """
    origin = Origin.of(bundle)
    if not origin.is_mine and not trusted:
        raise NotYours(
            f"the run is not signed with your key ({trust.user()}'s here): its bundle says that it is {origin.by}'s\n"
            + "\n".join(f"  {line}" for line in describe(bundle)),
            allowed="runs that you have submitted or resumed yourself, from here or with the same key",
            todo=f"if you trust whoever wrote that: runner resume {bundle.run_id} --trust (in Python: trust=True)",
            where=bundle.run_id,
        )
    return origin


def resealed(bundle: Bundle, spec: tuple[str, bytes] | None, code: tuple[str, bytes] | None) -> trust.Seal:
    """The seal of a run that goes on: its new spec and code, if it has any, and what it had before."""
    parts = [spec or _as_it_is(bundle, bundle.newest_spec()), code or _as_it_is(bundle, bundle.newest_code())]
    if bundle.store.exists(LOCK):
        parts.append(_as_it_is(bundle, LOCK))
    return trust.seal(dict(parts))


def _as_it_is(bundle: Bundle, key: str) -> tuple[str, bytes]:
    return key, bundle.read_sealed(key)


def describe(bundle: Bundle) -> list[str]:
    """What a resume would start, in lines: as the bundle has it, so nothing of it is believed or loaded."""
    try:
        spec = bundle.spec()
    except FileNotFoundError:
        return ["its spec is gone"]
    cluster, where = spec.cluster, spec.cluster.kubernetes or KubernetesSpec({})
    told = {
        "cluster": f"{spec.cluster_name} ({cluster.backend})",
        "address": cluster.address,
        "namespace": where.namespace,
        "service account": where.service_account,
        "image": where.image,
        "pod template": "one of its own" if where.raw.get("pod_template") else None,
        "volumes": f"{len(where.volumes)} mounted" if where.volumes else None,
        "runs": ", ".join(_function(stage.raw) for stage in spec.job.stages),
    }
    return [f"{name}: {words}" for name, words in told.items() if words]


def _function(stage: Mapping[str, Any]) -> str:
    fn = stage.get("fn")
    name = (fn.get("name") or fn.get("qualname") or "code without a name") if isinstance(fn, Mapping) else "no function"
    return f"{stage.get('name')} ({fn.get('file') or 'pickled'}: {name})" if isinstance(fn, Mapping) else str(name)
