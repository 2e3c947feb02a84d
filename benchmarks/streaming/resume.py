"""Resume in the middle of an epoch: seconds, bytes read again, and whether the rows are exactly the ones left out.

    python -m benchmarks.streaming --resume [--megabytes 256] [--rivals runner hf:workers=0 ...]

One process reads an epoch without a stop and keeps the state at 10, 50 and 90 % of its batches; for each of these a
fresh process restores the state and reads the rest. This module is also that process:

    python -m benchmarks.streaming.resume RESULT FOLDER whole|10|50|90 < CASE
"""

from __future__ import annotations

import importlib
import json
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.streaming.touch import Array, Tally, as_array

SHARES = (10, 50, 90)


def main() -> None:
    """One process: the whole epoch, or what is left of it at a share."""
    from benchmarks.streaming.case import Case

    target, folder, part = sys.argv[1:]
    case = Case.from_json(sys.stdin.read())
    rival = importlib.import_module(f"benchmarks.streaming.rivals.{case.rival.partition(':')[0]}")
    if not hasattr(rival.Reader, "restore"):
        found: dict[str, Any] = {"refused": "has no resume, or none that is measured"}
    elif reason := rival.refuses(case):
        found = {"refused": reason}
    else:
        rival.load(case)
        found = _whole(case, rival, Path(folder)) if part == "whole" else _rest(case, rival, Path(folder), part)
    Path(target).write_text(json.dumps(found))


def _whole(case: Any, rival: Any, folder: Path) -> dict[str, Any]:
    """Keeps all ids in their order, and the states."""
    before = bytes_read()
    reader, tally, ids = rival.Reader(case), Tally(), []
    steps = -(-case.rows // case.batch)
    wanted = {max(1, steps * share // 100): share for share in SHARES}
    for step, (some, values) in enumerate(reader.epoch(0), 1):
        tally.add(some, values)
        ids.append(np.array(as_array(some), np.int64))
        if step in wanted:
            seen = sum(len(one) for one in ids)
            (folder / str(wanted[step])).write_bytes(pickle.dumps((reader.state(seen), seen)))
    np.save(folder / "ids.npy", np.concatenate(ids))
    return {"bytes": bytes_read() - before}


def _rest(case: Any, rival: Any, folder: Path, part: str) -> dict[str, Any]:
    """Restores, and compares what comes with what was left."""
    state, seen = pickle.loads((folder / part).read_bytes())
    before, begin = bytes_read(), time.monotonic()
    reader, tally, ids, first = rival.Reader(case), Tally(), [], None
    reader.restore(state)
    for some, values in reader.epoch(0):
        first = first or time.monotonic() - begin
        tally.add(some, values)
        ids.append(np.array(as_array(some), np.int64))
    read = bytes_read() - before
    whole, rest = np.load(folder / "ids.npy"), np.concatenate(ids) if ids else np.empty(0, np.int64)
    return {"seconds": first, "bytes": read, "seen": seen, **compare(whole[seen:], rest)}


def compare(left: Array, rest: Array) -> dict[str, bool]:
    """Whether the rest is what was left, in its order; and whether at least the same rows came."""
    exact = len(left) == len(rest) and bool((left == rest).all())
    return {"exact": exact, "same_rows": bool(np.array_equal(np.sort(left), np.sort(rest)))}


def bytes_read() -> int:
    """By this process and its children that have ended, by calls of the system; what is mapped is not counted."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("rchar")).split()[1])


def table(found: dict[str, dict[str, Any]], rows: int) -> str:
    """Markdown of {contestant: {part: what its process found}}."""
    text = [
        "### Resume\n",
        "| contestant | at | first batch, s | read again, MB | rows |\n|---|---|---|---|---|",
    ]
    for rival, parts in found.items():
        whole = parts.get("whole", {})
        if "bytes" not in whole:
            text.append(f"| {rival} | {whole.get('refused') or whole.get('error', '')} | | | |")
            continue
        for share in SHARES:
            one = parts.get(str(share), {})
            if "bytes" not in one:
                text.append(f"| {rival} | {share} % | {one.get('error', '')} | | |")
                continue
            again = one["bytes"] - whole["bytes"] * (1 - one["seen"] / rows)
            rest = "exactly the rest" if one["exact"] else "the rest, reordered" if one["same_rows"] else "**others**"
            seconds = "" if one["seconds"] is None else f"{one['seconds']:.2f}"
            text.append(f"| {rival} | {share} % | {seconds} | {again / 1e6:.0f} | {rest} |")
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    main()
