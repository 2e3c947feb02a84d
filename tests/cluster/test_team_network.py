"""Whom pods of a team are answered by, and whom they answer: asked by pods, on a network that enforces policies."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from runner.backends.kuberay import manifest
from runner.kube import client, names
from runner.kube.client import PODS, Kube
from runner.kube.team.objects import Tenant
from runner.onebox.packages import program
from runner.onebox.places import API, BRIDGE, GATEWAY, S3_URL
from tests.cluster import kit
from tests.cluster.conftest import Cluster

#: Where clouds tell a machine its secrets; here a server of the test, on this machine's bridge.
METADATA = "169.254.169.254"
PORT, METADATA_PORT = 8000, 80
#: Answers everybody who gets through.
SERVE = f"""
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"here")
ThreadingHTTPServer(("", {PORT}), Answer).serve_forever()
"""
#: Asks each of a JSON list of [host, port] at one time, and prints which were reached.
ASK = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def reaches(place):
    try:
        socket.create_connection(tuple(place), timeout=3).close()
        return True
    except OSError:
        return False
places = json.loads(sys.argv[1])
with ThreadPoolExecutor(len(places)) as pool:
    print(json.dumps(list(pool.map(reaches, places))))
"""


@dataclass(frozen=True)
class Network:
    """Pods of two teams and of nobody.

    Args:
        pods: name -> namespace and address.
        port: at which a server of this machine listens, at the bridge's address.
    """

    cluster: Cluster
    red: str
    blue: str
    pods: dict[str, tuple[str, str]]
    port: int

    @property
    def nobody(self) -> str:
        """The pod of no team."""
        return next(name for name in self.pods if name.startswith("nobody"))

    def reached(self, name: str, *places: tuple[str, int] | str) -> list[bool]:
        """Which of (host, port) a pod reaches, or of other pods by name."""
        asked = [(self.pods[place][1], PORT) if isinstance(place, str) else place for place in places]
        command = ("-n", self.pods[name][0], "exec", name, "--", kit.python(), "-c", ASK, json.dumps(asked))
        said: list[str] = []

        def answered() -> str:  # on a machine that has too much to do, the API has no answer now and then
            said.append(self.cluster.run(*command, check=False))
            return said[-1]

        kit.await_that(answered, 60, f"{name} has asked")
        return list(json.loads(said[-1]))


@pytest.fixture(scope="module")
def network(cluster: Cluster) -> Iterator[Network]:
    """Two pods of runs of red, a pod of red's and one of blue's that are of no run, and one of nobody."""
    if not cluster.onebox:
        pytest.skip("which addresses answer is known of the one-machine cluster alone")
    with pytest.MonkeyPatch.context() as patch, serving(METADATA, METADATA_PORT), serving(GATEWAY, 0) as port:
        patch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        admin = Kube(None, "default")
        mark = kit.mark()
        red, blue = f"test-red-{mark}", f"test-blue-{mark}"
        listed = (API.split("//")[1], S3_URL.split("//")[1], f"{GATEWAY}:53")
        try:
            for name, egress in ((red, ()), (blue, listed)):
                share: Any = {"cpus": 2.0, "memory": 4 * kit.GIB, "queue": False}
                kit.make_team(admin, Tenant(name, host_paths=kit.mounts_hosts(), egress=egress, **share))
            runs = {"run-a": (red, "r1"), "run-b": (red, "r2"), "plain": (red, ""), "other": (blue, "r3")}
            wanted = {**runs, f"nobody-{mark}": ("default", "")}
            for name, (namespace, run) in wanted.items():
                admin.create(PODS, pod(namespace, name, run))
            places = {name: (where, at(admin.at(where), name)) for name, (where, _) in wanted.items()}
            yield Network(cluster, red, blue, places, port)
        finally:
            admin.delete(PODS, f"nobody-{mark}", grace_s=0)
            for team in (red, blue):
                kit.remove_team(admin, team)


def pod(namespace: str, name: str, run: str) -> dict[str, Any]:
    """A pod that answers everybody, of the image and with the folders that pods of runs have."""
    facts = manifest.RunFacts("r", "network", "s3://lake/network", kit.cluster_file(namespace=namespace), by="ann")
    template = manifest.supervisor_job(facts)["spec"]["template"]["spec"]
    container = {
        **template["containers"][0], "command": [kit.python(), "-c", SERVE],
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
    }  # fmt: skip
    container.pop("envFrom", None)
    spec = {**template, "containers": [container], "automountServiceAccountToken": False, "restartPolicy": "Never"}
    metadata = {"name": name, "namespace": namespace, "labels": {names.RUN: run} if run else {}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {**spec, "terminationGracePeriodSeconds": 0},
    }


def at(kube: Kube, name: str) -> str:
    """The address of a pod, once it runs."""
    found: dict[str, Any] = {}

    def runs() -> bool:
        found.update(kube.get(PODS, name)["status"])
        return found.get("phase") == "Running" and bool(found.get("podIP"))

    kit.await_that(runs, 60, f"{name} runs")
    return str(found["podIP"])


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words: Any) -> None:
        pass


@contextmanager
def serving(address: str, port: int) -> Iterator[int]:
    """A server at an address of this machine's bridge, which is given to it where it has not got it."""
    own = address == GATEWAY
    if not own:
        subprocess.run([program("ip"), "address", "add", f"{address}/32", "dev", BRIDGE], check=True)
    try:
        with ThreadingHTTPServer((address, port), _Answer) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield server.server_port
            server.shutdown()
    finally:
        if not own:
            subprocess.run([program("ip"), "address", "delete", f"{address}/32", "dev", BRIDGE], check=True)


def test_pods_of_runs_hear_each_other_and_nobody_else(network: Network) -> None:
    """A run's pod is reached by the pods of the team's runs; not by another team's, nor by the team's that are of no
    run, nor by one of nobody; and each of these is there and answers, for somebody.
    """
    nobody = network.nobody
    assert network.reached("run-a", "run-a", "run-b", "plain", "other", nobody) == [True, True, False, False, True]
    assert network.reached("plain", "run-b", "other", nobody) == [False, False, True]
    assert network.reached("other", "run-a", "run-b", "plain") == [False, False, False]
    assert network.reached(nobody, "run-a", "run-b", "plain", "other", nobody) == [*[False] * 4, True]


def test_no_pod_of_a_team_asks_the_cloud_for_secrets(network: Network) -> None:
    """The metadata address answers a pod of nobody, and no team's; the store and the API answer all."""
    host, port = S3_URL.split("//")[1].split(":")
    places = [(METADATA, METADATA_PORT), (host, int(port)), ("kubernetes.default.svc", 443)]
    assert network.reached(network.nobody, *places) == [True, True, True]
    for name in ("run-a", "plain", "other"):
        assert network.reached(name, *places) == [False, True, True]


def test_a_team_calls_no_more_than_what_is_listed(network: Network) -> None:
    """With a list of destinations another port of the same address is not reached; without one it is."""
    place = (GATEWAY, network.port)
    assert network.reached("run-a", place) == [True]
    assert network.reached("other", place) == [False]


def test_a_list_without_the_api_is_refused(cluster: Cluster, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Supervisors of such a team could not work: it is told before anything is made, with what to add."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    name = f"test-shut-{kit.mark()}"
    said = kit.refused_tenant(name, "--egress", "10.0.0.0/16")
    assert f"add --egress {API.split('//')[1]}" in said
    assert Kube(None, name).find(client.NAMESPACES, name) is None
