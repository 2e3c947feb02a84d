"""Submit to first training step on Kubernetes, beside a hand-written RayJob that does the same, interleaved in one run.

    eval "$(python -m runner.onebox env)"; python benchmarks/kube_startup.py [--rounds 3]

Both train the same small model on the same object of the lake, with two ranks on two pods with a GPU each. Time runs
from the command's start (`runner submit`; the creation of the RayJob and its ConfigMap) to the end of rank 0's first
step. The peer has what a careful person writes: the script in a ConfigMap, the Secret as environment variables,
HTTPMode, and KubeRay's defaults for the rest. Ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from runner.backends.kuberay import manifest
from runner.kube.client import CONFIG_MAPS, PODS, RAY_JOBS, Kube
from runner.plan.project import find_project
from runner.spec import Cluster
from runner.store import Store

HERE = Path(__file__).resolve().parent
PEERS = HERE / "kube_peers"
LONGEST_S = 300.0


def make_data(store: Store) -> None:
    """20,000 rows: x of 16 floats, y."""
    import io

    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    x = pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=20_000 * 16).astype("float32")), 16)
    buffer = io.BytesIO()
    pq.write_table(pa.table({"x": x, "y": rng.normal(size=20_000).astype("float32")}), buffer)
    store.put("benchmark/data.parquet", buffer.getvalue())


def by_hand(kube: Kube, cluster: Cluster, mark: str) -> float:
    """Make the RayJob; the seconds to its first step."""
    name = f"by-hand-{uuid.uuid4().hex[:6]}"
    scripts = {path.name: path.read_text() for path in (PEERS / "train.py", PEERS / "by_hand.py")}
    begun = time.time()
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": scripts}
    kube.create(CONFIG_MAPS, config)
    kube.create(RAY_JOBS, hand_written(name, cluster, mark))
    try:
        return await_mark(mark) - begun
    finally:
        kube.delete(RAY_JOBS, name)
        kube.delete(CONFIG_MAPS, name)
        await_no_pods(kube)


def hand_written(name: str, cluster: Cluster, mark: str) -> dict[str, Any]:
    """The RayJob as a person would write it for this cluster; the same machines as ours."""
    facts = manifest.RunFacts("by-hand", "by-hand", "s3://lake", cluster, ray_version=ray_version())
    body = manifest.ray_job(facts, 0, 1, "gpu", (2, 2), None)
    body["metadata"] = {"name": name}
    body["spec"]["entrypoint"] = f"python /opt/benchmark/by_hand.py {mark}"
    parts = body["spec"]["rayClusterSpec"]
    for template in (parts["headGroupSpec"]["template"], parts["workerGroupSpecs"][0]["template"]):
        spec = template["spec"]
        (container,) = spec["containers"]
        container["env"] = [each for each in container["env"] if not each["name"].startswith("RUNNER_")]
        del container["readinessProbe"]
        container["volumeMounts"].append({"name": "script", "mountPath": "/opt/benchmark"})
        spec["volumes"].append({"name": "script", "configMap": {"name": name}})
        template["metadata"]["labels"] = {"benchmark": "startup"}
    return body


def ray_version() -> str:
    """Of this environment, which the pods mount."""
    from importlib.metadata import version

    return version("ray")


def ours(kube: Kube, cluster_name: str, mark: str) -> float:
    """`runner submit`; the seconds to its first step."""
    command = [
        sys.executable, "-m", "runner", "submit", str(PEERS / "job.py"), "--cluster", cluster_name, "--set",
        f"mark={mark}",
    ]  # fmt: skip
    begun = time.time()
    done = subprocess.run(
        command,
        cwd=HERE.parent,
        env={**os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"runner submit failed:\n{done.stdout[-3000:]}{done.stderr[-2000:]}")
    await_no_pods(kube)
    return await_mark(mark) - begun


def await_mark(url: str) -> float:
    """The time that rank 0 has noted."""
    import fsspec

    fs, path = fsspec.core.url_to_fs(url)
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        fs.invalidate_cache()
        if fs.exists(path):
            return float(fs.cat_file(path))
        time.sleep(0.5)
    raise SystemExit(f"no first step within {LONGEST_S:.0f} s")


def await_no_pods(kube: Kube) -> None:
    """The machine is quiet again before the next one starts."""
    while any((pod.get("status") or {}).get("phase") in ("Pending", "Running") for pod in kube.select(PODS)):
        time.sleep(0.5)


def main() -> None:
    """Run the rounds and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cluster", default="onebox")
    arguments = parser.parse_args()
    cluster = find_project(HERE.parent / "jobs/digits.py").cluster(arguments.cluster)
    assert cluster.kubernetes is not None
    kube = Kube(cluster.kubernetes.context, cluster.kubernetes.namespace)
    make_data(Store("s3://lake"))
    times: dict[str, list[float]] = {"runner": [], "by hand": []}
    for number in range(arguments.rounds + 1):
        seconds = {
            "runner": ours(kube, arguments.cluster, f"s3://lake/benchmark/mark-{uuid.uuid4().hex}"),
            "by hand": by_hand(kube, cluster, f"s3://lake/benchmark/mark-{uuid.uuid4().hex}"),
        }
        print(f"round {number}: " + ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items()), flush=True)
        if number:  # round 0 warms the file cache
            for name, value in seconds.items():
                times[name].append(value)
    for name, values in times.items():
        print(
            f"{name:8} first step, s: min {min(values):.1f} median {statistics.median(values):.1f} "
            f"max {max(values):.1f}"
        )
    ratios = [a / b for a, b in zip(times["runner"], times["by hand"], strict=True)]
    print(
        f"runner / by hand: median {statistics.median(ratios):.2f} "
        f"(min {min(ratios):.2f}, max {max(ratios):.2f}; goal: at most 1.15)"
    )


if __name__ == "__main__":
    main()
