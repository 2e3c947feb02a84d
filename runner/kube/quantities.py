"""Kubernetes' quantities as numbers: '500m' is 0.5, '4Gi' is 4294967296."""

from __future__ import annotations

_FACTORS = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip


def number(quantity: str | int | float) -> float:
    """The value of a quantity. Raises ValueError."""
    text = str(quantity).strip()
    digits = text.rstrip("numkMGTPEi")
    if "e" in text or "E" in text.rstrip("Ei"):
        return float(text)
    return float(digits) * _FACTORS[text[len(digits) :]]


def add(total: dict[str, float], more: dict[str, float], times: float = 1) -> None:
    """Add resources, name by name, in place."""
    for name, value in more.items():
        total[name] = total.get(name, 0.0) + value * times


def words(name: str, value: float) -> str:
    """Such as 'cpu 2.5' and 'memory 3.0 GiB'."""
    return f"{name} {value / 2**30:.1f} GiB" if name == "memory" else f"{name} {value:g}"
