"""How often the kernel has killed a process of this container for want of memory, and what the limit is."""

from __future__ import annotations

from pathlib import Path

#: Of cgroup v2, and of v1.
_EVENTS = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def out_of_memory_kills() -> int:
    """The kernel's counter; 0 where there is none."""
    for path in _EVENTS:
        if path.exists():
            counts = dict(line.split() for line in path.read_text().splitlines())
            return int(counts.get("oom_kill", 0))
    return 0


def limit_words() -> str:
    """Such as 'its limit is 3.0 GiB'."""
    for path in _LIMITS:
        if path.exists() and (text := path.read_text().strip()).isdigit() and int(text) < 1 << 60:
            return f"its limit is {int(text) / 2**30:.1f} GiB"
    return "it has no limit of its own"
