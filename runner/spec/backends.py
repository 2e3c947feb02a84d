"""The names that a cluster's `backend` may have: those of this package, and those that installed packages add."""

from __future__ import annotations

from runner.process.package import NAME

#: The group of entry points by which an installed package adds a backend: the name, and where its `Kind` is.
GROUP = f"{NAME}.backends"
BUILT_IN = ("local", "ray", "kuberay", "fake")


def known() -> tuple[str, ...]:
    """All names."""
    from importlib.metadata import entry_points  # takes its time, and most name one of this package

    return (*BUILT_IN, *sorted(entry_points(group=GROUP).names))


def is_known(name: object) -> bool:
    """Whether it is one of them; what is installed is looked through only where it is none of this package."""
    return name in BUILT_IN or name in known()
