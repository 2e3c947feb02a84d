"""Submit to first training step, beside torchrun, a bare TorchTrainer and `python train.py`, interleaved in one run.

    python benchmarks/startup.py [--rounds 5]

Every contestant trains the same small model on the same Parquet file. Time runs from the start of its command to the
end of rank 0's first step. The machine's speed drifts, so each round runs all of them, and ratios are taken within
a round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = HERE / "startup_peers"
BIN = Path(sys.executable).parent

#: name -> command; the pairs that are compared, with the most that ours may take.
COMMANDS = {
    "runner local": [sys.executable, "-m", "runner", "submit", str(PEERS / "job.py")],
    "torchrun": [str(BIN / "torchrun"), "--nproc-per-node", "2", str(PEERS / "torchrun.py")],
    "runner ray_local": [
        sys.executable, "-m", "runner", "submit", str(PEERS / "job.py"), "--cluster", "ray_local",
    ],
    "TorchTrainer": [sys.executable, str(PEERS / "torch_trainer.py")],
    "runner --inline": [sys.executable, "-m", "runner", "submit", str(PEERS / "job.py"), "--inline"],
    "python": [sys.executable, str(PEERS / "plain.py")],
}  # fmt: skip
PAIRS = [
    ("runner local", "torchrun", 1.5),
    ("runner ray_local", "TorchTrainer", 1.1),
    ("runner --inline", "python", 1.5),
]


def make_data(path: Path) -> None:
    """20,000 rows: x of 16 floats, y."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    x = pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=20_000 * 16).astype("float32")), 16)
    pq.write_table(pa.table({"x": x, "y": rng.normal(size=20_000).astype("float32")}), path)


def seconds_to_first_step(name: str, folder: Path) -> tuple[float, float]:
    """(to rank 0's first step, to the command's end)."""
    mark = folder / "mark"
    mark.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "STARTUP_MARK": str(mark), "STARTUP_DATA": str(folder / "data.parquet"), "STARTUP_STORAGE": str(folder / "ray"),
        "RUNNER_STORE": str(folder / "store"), "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # runner's own modules, once compiled, stay so
    begun = time.time()
    done = subprocess.run(
        COMMANDS[name],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    ended = time.time()
    if done.returncode != 0 or not mark.exists():
        raise SystemExit(f"{name} failed with exit code {done.returncode}:\n{done.stdout[-3000:]}")
    return float(mark.read_text()) - begun, ended - begun


def main() -> None:
    """Run the rounds and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="run only the pair whose names contain this word")
    arguments = parser.parse_args()
    pairs = [pair for pair in PAIRS if arguments.only in f"{pair[0]} {pair[1]}".split(" ") or not arguments.only]
    names = [name for ours, theirs, _ in pairs for name in (ours, theirs)]
    first: dict[str, list[float]] = {name: [] for name in names}
    whole: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_data(folder / "data.parquet")
        for number in range(arguments.rounds + 1):
            for name in names:
                begun, ended = seconds_to_first_step(name, folder)
                if number:  # round 0 warms the file cache
                    first[name].append(begun)
                    whole[name].append(ended)
            print(f"round {number} of {arguments.rounds} done", file=sys.stderr)
    print(f"{'':20}{'first step, s (min median max)':>34}{'whole command, s (median)':>28}")
    for name in names:
        low, middle, high = min(first[name]), statistics.median(first[name]), max(first[name])
        print(f"{name:20}{low:14.2f}{middle:10.2f}{high:10.2f}{statistics.median(whole[name]):28.2f}")
    for ours, theirs, most in pairs:
        ratios = [a / b for a, b in zip(first[ours], first[theirs], strict=True)]
        print(
            f"{ours} / {theirs}: median {statistics.median(ratios):.2f} "
            f"(min {min(ratios):.2f}, max {max(ratios):.2f}; goal: at most {most})"
        )


if __name__ == "__main__":
    main()
