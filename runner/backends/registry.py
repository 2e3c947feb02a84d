"""Which kind of machines a run is on. A kind is loaded when it is asked for, and nothing heavy with it."""

from __future__ import annotations

import functools
import importlib
import traceback
from typing import TYPE_CHECKING

from runner.backends.absent import AbsentClient
from runner.backends.base import Backend, ClientSide
from runner.backends.kind import Kind
from runner.errors import InputError, listed
from runner.spec import Cluster
from runner.spec.backends import GROUP, is_known, known

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from runner.record import Bundle

#: The kinds of this package: where each is, below this folder. A cluster that is there already, at an address, is of
#: another kind than one that is started for the run.
_BUILT_IN = {
    "local": "local.kind:LOCAL",
    "ray": "ray.kind:RAY_HERE",
    "ray, at an address": "ray.kind:RAY_CLUSTER",
    "kuberay": "kuberay.kind:KUBERAY",
    "fake": "fake:FAKE",
}
#: Between the name of a backend and one of its places. Lines of an index that have none are of the only backend that
#: had places before their names were written.
_AT, _UNSAID = "@", "kuberay"


def kind_of(cluster: Cluster) -> Kind:
    """The kind of machines that a cluster file describes."""
    return _kind(cluster.backend, cluster.address)


def kind_of_run(bundle: Bundle) -> Kind:
    """The kind of machines that a run is on, whatever else its spec says."""
    return _kind(*_named(bundle))


def open_backend(bundle: Bundle) -> Backend:
    """The machines of a run, for its supervisor."""
    return kind_of_run(bundle).open(bundle)


def client_side(bundle: Bundle) -> ClientSide:
    """A run as a client sees it; one of a kind that cannot be loaded here can still be read."""
    try:
        kind = kind_of_run(bundle)
    except InputError as error:
        return AbsentClient(error)
    return kind.client(bundle)


def place(bundle: Bundle) -> str:
    """Where the supervisor of a run is, for `living`; "" where only its log tells how it can be found."""
    found = kind_of_run(bundle).place(bundle)
    return f"{_named(bundle)[0]}{_AT}{found}" if found else ""


def living(where: str) -> set[str] | None:
    """The runs at a `place` whose supervisors live; None where that cannot be asked."""
    name, _, rest = where.partition(_AT)
    if not is_known(name):  # somebody else's word, or a line without a name, whose place may have the sign in it
        name, rest = _UNSAID, where
    try:
        kind = _kind(name, None)
    except InputError:
        return None
    return kind.living(rest)


def _named(bundle: Bundle) -> tuple[str, str | None]:
    cluster = bundle.known_spec().cluster
    return cluster.backend, cluster.address


def _kind(backend: str, address: str | None) -> Kind:
    return _load(backend if address is None else f"{backend}, at an address")


@functools.cache
def _load(name: str) -> Kind:
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        found: Kind = getattr(importlib.import_module(f"{__package__}.{module}"), attribute)
        return found
    from importlib.metadata import entry_points

    for entry in entry_points(group=GROUP, name=name):
        return _added(entry)
    raise InputError(
        f"backend '{name}'",
        allowed=listed(known()),
        todo="install the package that adds it here, and wherever the run's processes are",
    )


def _added(entry: EntryPoint) -> Kind:
    """What an installed package adds. Raises InputError where it cannot be had: that is no bug of this package."""
    package = entry.dist.name if entry.dist is not None else "an installed package"
    try:
        found = entry.load()
    except Exception as error:
        words = "".join(traceback.format_exception_only(error)).strip()
        raise _unusable(entry, package, words) from error
    if not isinstance(found, Kind):
        raise _unusable(entry, package, f"{entry.value} is {type(found).__name__}")
    return found


def _unusable(entry: EntryPoint, package: str, words: str) -> InputError:
    return InputError(
        f"backend '{entry.name}', which {package} adds, cannot be loaded: {words}",
        allowed=f"a value of {Kind.__module__}.{Kind.__qualname__} at {entry.value}",
        todo=f"mend {package}, or install another version of it",
    )
