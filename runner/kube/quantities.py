"""Kubernetes' quantities as numbers: '500m' is 0.5, '4Gi' is 4294967296."""

from __future__ import annotations


def number(quantity: str | int | float) -> float:
    """The value of a quantity. Raises ValueError."""
    from kubernetes.utils.quantity import parse_quantity

    return float(parse_quantity(quantity))


def add(total: dict[str, float], more: dict[str, float], times: float = 1) -> None:
    """Add resources, name by name, in place."""
    for name, value in more.items():
        total[name] = total.get(name, 0.0) + value * times


def words(name: str, value: float) -> str:
    """Such as 'cpu 2.5' and 'memory 3.0 GiB'."""
    return f"{name} {amount(name, value)}"


def amount(name: str, value: float) -> str:
    """The value alone; memory, also as 'limits.memory', in GiB."""
    return f"{value / 2**30:.1f} GiB" if name.rpartition(".")[2] == "memory" else f"{value:g}"


def written(value: float) -> str:
    """A number as a quantity."""
    return str(int(value)) if value == int(value) else f"{value:g}"
