"""Whose run it is, and that what starts is what was submitted."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import runner
from runner import Cluster, Group
from runner.backends.fake import FakeBackend
from runner.backends.kuberay import manifest
from runner.backends.kuberay.objects import run_facts
from runner.client.run import Run
from runner.errors import InputError, NotYours, RunNotFound, StoreRefused
from runner.process.package import PACKAGE
from runner.record import Bundle, origin, trust
from runner.record.bundle import CODE, SPEC, encoded
from runner.record.code import unpack
from runner.record.entries import Resumed, Submitted
from runner.record.finding import find_run
from runner.record.run_spec import RunSpec
from runner.spec import Kubernetes, wire
from runner.store import Store
from runner.worker.scope import Scope

FAKE = Cluster(backend="fake", groups={"cpu": Group(cpu=4)})
JOB = """
from runner import Job, Prep

def words(batch, config):
    return batch

job = Job("tiny", stages=[Prep("words", fn=words, source="text", sink="words")])
"""
OTHER = "somebody else, who can write the store as well"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run of this user's that has failed."""
    for folder in ("jobs", "datasets", "lake"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "jobs/tiny.py").write_text(JOB)
    (tmp_path / "datasets/text.py").write_text('from runner import Dataset\ndata = Dataset(url="lake/*.jsonl")\n')
    (tmp_path / "lake/a.jsonl").write_text('{"text": "one"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(FakeBackend, "outcomes", {"tiny": {"words": "boom"}})
    found = runner.submit("tiny", cluster=FAKE)
    FakeBackend.outcomes.clear()
    return found


def again(run: Run) -> Run:
    """The run, as another command finds it."""
    return Run(Store(run.bundle.root.url), run.id)


def test_ones_own_run_goes_on_without_a_word(run: Run) -> None:
    """Who has submitted a run resumes it, more than once, and the log has a signed seal of what is there each time."""
    FakeBackend.outcomes["tiny"] = {"words": "boom"}
    runner.resume(again(run), new_code=True)
    FakeBackend.outcomes.clear()
    assert runner.resume(again(run)).status == "succeeded"
    found = origin.Origin.of(run.bundle)
    assert found.is_mine
    assert sorted(found.sealed) == ["code-2.zip", "spec-2.json"]
    for key, sha in found.sealed.items():
        assert hashlib.sha256(run.bundle.store.get(key)).hexdigest() == sha


@pytest.mark.parametrize("key", [SPEC, CODE])
def test_what_was_changed_in_the_store_does_not_start(run: Run, key: str) -> None:
    """A spec or an archive that is not the one that was submitted is refused by its name, trusted or not."""
    run.bundle.store.put(key, run.bundle.store.get(key) + b" ")
    started = list(FakeBackend.started)
    for trusted in (False, True):
        with pytest.raises(StoreRefused, match=f"{key} is not what was submitted"):
            runner.resume(again(run), trust=trusted)
    assert FakeBackend.started == started


def test_a_run_of_somebody_else_takes_a_word(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has not signed a run is told whose it is and what it would start; with `trust` it goes on, and is his."""
    monkeypatch.setenv("RUNNER_KEY", OTHER)
    started = list(FakeBackend.started)
    with pytest.raises(NotYours) as refused:
        runner.resume(again(run))
    words = str(refused.value)
    for part in (trust.user(), "words (jobs/tiny.py: words)", "(fake)", "--trust"):
        assert part in words
    assert FakeBackend.started == started
    assert runner.resume(again(run), trust=True).status == "succeeded"
    assert origin.Origin.of(run.bundle).is_mine


@pytest.mark.parametrize("forged", ["no seal", "no signature", "a wrong signature", "another run's", "odd"])
def test_a_name_proves_nothing(run: Run, forged: str) -> None:
    """A bundle that only says that it is mine is not: anybody could have written the name."""
    head = run.bundle.log.head()
    assert head is not None
    data = {**head.event.to_json(), "by": trust.user()}
    if forged == "no seal":
        del data["sealed"]
    elif forged == "no signature":
        del data["signed"]
    elif forged == "odd":
        data["sealed"] = {"spec.json": 5, "code.zip": ["x"], "../x": "y"}
    else:
        data["signed"] = (
            "0" * 64 if forged == "a wrong signature" else trust.sign("r261129-120000-a-xy", data["sealed"])
        )
    entry = json.loads(run.bundle.store.get("log/00000001.json"))
    run.bundle.store.put("log/00000001.json", json.dumps({**entry, "data": data}).encode())
    assert not origin.Origin.of(again(run).bundle).is_mine
    with pytest.raises(NotYours):
        runner.resume(again(run))


def test_settings_of_a_strange_cluster_are_told(tmp_path: Path) -> None:
    """Namespace, service account, image, volumes and template of the bundle are named before anything is made."""
    store = Store(str(tmp_path))
    bundle = Bundle(store, "r261129-120000aa-tiny-xy")
    where = {
        "namespace": "theirs",
        "service_account": "root",
        "image": "evil:1",
        "pod_template": {"a": 1},
        "volumes": [1],
    }
    spec = {
        "cluster_name": "x",
        "cluster": {"backend": "kuberay", "kubernetes": where},
        "job": {"stages": []},
        "legs": [],
    }
    bundle.write_spec(RunSpec.from_json(spec))
    bundle.log.append(Submitted(by="eve", legs=(), job="x"))
    with pytest.raises(NotYours) as refused:
        origin.take(bundle, trusted=False)
    for part in ("eve", "theirs", "root", "evil:1", "pod template", "1 mounted"):
        assert part in str(refused.value)


def test_processes_of_a_run_know_what_it_is(run: Run, tmp_path: Path) -> None:
    """The seal goes from client to supervisor, driver and workers beside the store: they act on nothing else."""
    sealed = origin.Origin.of(run.bundle).sealed
    (tmp_path / "scratch").mkdir()
    scope = Scope(run.bundle.root, run.id, 0, 1, tmp_path / "scratch", sealed=sealed)
    assert scope.payload()["sealed"] == sealed
    run.bundle.store.put(CODE, b"other")
    run.bundle.store.put(SPEC, run.bundle.store.get(SPEC).replace(b"words", b"swords"))
    with pytest.raises(StoreRefused, match=r"spec.json is not"):
        Scope.attach(scope.payload())
    with pytest.raises(StoreRefused, match=r"code.zip is not"):
        unpack(Bundle(run.bundle.root, run.id, sealed), tmp_path / "code")
    assert not (tmp_path / "code").exists()
    run.bundle.log.append(Resumed(by="eve", spec="spec-2.json"))
    run.bundle.store.put("spec-2.json", b"{}")
    assert Bundle(run.bundle.root, run.id, sealed).newest_spec() == SPEC


def test_pods_are_told_the_seal(run: Run) -> None:
    """It stands in what pods are started with, for supervisor and driver, which no writer of the store can change."""
    sealed = origin.Origin.of(run.bundle).sealed
    cluster = Cluster(backend="kuberay", groups={"cpu": Group(memory="1GiB")}, kubernetes=Kubernetes(image="x:1"))
    spec = run.bundle.spec().but(cluster=wire.to_json(cluster, Path()))
    bundle = Bundle(run.bundle.root, run.id, trust.seal({SPEC: encoded(spec), CODE: b""}))
    bundle.store.put(SPEC, encoded(spec))
    facts = run_facts(bundle)
    for made in (manifest.supervisor_job(facts), manifest.ray_job(facts, 0, 1, "cpu", (1, 1), None)):
        text = json.dumps(made)
        assert bundle.sealed[CODE] in text
        assert sealed[CODE] not in text


def test_other_code_is_not_unpacked_in_a_pod(tmp_path: Path) -> None:
    """The first lines in a pod compare the archive with the seal before they open it."""
    (tmp_path / "code.zip").write_bytes(b"anything")
    argument = {
        "folder": str(tmp_path / "code"), "module": "runner.control.supervisor", "code": f"file://{tmp_path}/code.zip",
        "options": {}, "sealed": {"code.zip": hashlib.sha256(b"what was submitted").hexdigest()},
    }  # fmt: skip
    boot = PACKAGE / "backends/boot.py"
    environment = {**os.environ, "RUNNER_ARGUMENT": json.dumps(argument)}
    done = subprocess.run([sys.executable, str(boot)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not what was submitted" in done.stderr
    assert not (tmp_path / "code").exists()


def test_the_last_run_is_ones_own(run: Run, tmp_path: Path) -> None:
    """`@last` passes over the runs of others, and says so where none is left."""
    store, own = run.bundle.root, run.id
    for name in ("r991231-235958aa-evil-xy", "r991231-235959aa-evil-xy"):
        bundle = Bundle(store, name)
        bundle.index("evil", "failed")
        bundle.log.append(Submitted(by="eve", legs=(), job="evil"))
    assert find_run(store, "@last") == own
    with pytest.raises(RunNotFound, match="1 of its 3 runs from you"):
        find_run(store, "@last~1")
    assert find_run(store, "r991231-235959aa-evil-xy") == "r991231-235959aa-evil-xy"


def test_the_key_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lies in the user's configuration, his alone; one that others can read, or that is short, is refused."""
    monkeypatch.delenv("RUNNER_KEY")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    sealed = trust.seal({SPEC: b"a"})
    signed = trust.sign("r", sealed)
    path = tmp_path / "lake-runner" / "key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["key"]
    assert trust.is_mine("r", sealed, signed)
    assert not trust.is_mine("s", sealed, signed)
    assert not trust.is_mine("r", trust.seal({SPEC: b"b"}), signed)
    path.chmod(0o644)
    with pytest.raises(InputError, match="0600"):
        trust.sign("r", sealed)
    monkeypatch.setenv("RUNNER_KEY", "short")
    with pytest.raises(InputError, match="RUNNER_KEY has 5"):
        trust.sign("r", sealed)


def answers(value: Any) -> Any:
    return lambda *_args, **_options: value


@pytest.mark.parametrize("home", ["/proc/1", "/dev/null", "/nonexistent/home"])
def test_without_a_home_the_key_is_among_the_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    """In a folder that is this user's alone; where others could replace that, the variable is asked for."""
    for name in ("RUNNER_KEY", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", home)
    if home == "/proc/1":  # as for somebody who is not root
        monkeypatch.setattr(Path, "mkdir", refusing(Path(home), Path.mkdir))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first = trust.sign("r", {"spec.json": "0"})
    assert trust.is_mine("r", {"spec.json": "0"}, first)
    folder = tmp_path / f"lake-runner-{os.getuid()}"
    assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE((folder / "key").stat().st_mode)) == (0o700, 0o600)
    tmp_path.chmod(0o777)
    with pytest.raises(InputError, match="RUNNER_KEY"):
        trust.sign("r", {"spec.json": "0"})


def refusing(home: Path, mkdir: Any) -> Any:
    """`mkdir` as for somebody who may not write there: root may."""

    def make(path: Path, *arguments: Any, **more: Any) -> None:
        if path.is_relative_to(home):
            raise PermissionError(13, "Permission denied", str(path))
        mkdir(path, *arguments, **more)

    return make


@pytest.mark.parametrize("answer", [True, False])
def test_at_a_terminal_it_is_a_question(run: Run, monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    """Where a person is there, the command asks after it has said whose run it is; elsewhere it refuses."""
    from runner.cli import actions
    from runner.cli.console import Output

    monkeypatch.setenv("RUNNER_KEY", OTHER)
    monkeypatch.setattr(actions, "interactive", answers(False))
    with pytest.raises(NotYours):
        actions._is_trusted(again(run), Output.TEXT)
    monkeypatch.setattr(actions, "interactive", answers(True))
    monkeypatch.setattr(actions.typer, "confirm", answers(answer))
    if answer:
        assert actions._is_trusted(again(run), Output.TEXT)
    else:
        with pytest.raises(NotYours):
            actions._is_trusted(again(run), Output.TEXT)
