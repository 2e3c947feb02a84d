"""Checkpoints: what is kept of an object, how it is published, and what happens when a file is not what it was."""

from __future__ import annotations

import argparse
import base64
import collections
import dataclasses
import datetime
import enum
import errno
import functools
import hashlib
import json
import math
import pickle
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from runner.code import references
from runner.code.modules import MAIN
from runner.errors import Fenced, SpecError, StoreError
from runner.record.entries import AttemptBegan, CheckpointPublished, Resumed
from runner.record.reading import metric_rows
from runner.store import Store
from runner.store.events import Event
from runner.train import randomness
from runner.train.checkpoint import files as checkpoint_files
from runner.train.checkpoint import safe_state as plain_state
from runner.train.checkpoint.published import Checkpoints, Damaged
from runner.train.checkpoint.state import MODULE, STATE, VALUE, put, take, tracked
from runner.train.gang.inline import InlineGang
from runner.train.stage import run_train
from runner.worker.scope import Scope
from tests.unit.spec import config_kit
from tests.unit.train.kit import ROOT, Config, make_scope, published

rates = torch.optim.lr_scheduler
SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "MultiStepLR": lambda o: rates.MultiStepLR(o, [2, 5]), "StepLR": lambda o: rates.StepLR(o, 2),
    "CosineAnnealingLR": lambda o: rates.CosineAnnealingLR(o, 20), "OneCycleLR": lambda o: rates.OneCycleLR(o, 0.2, 20),
    "CyclicLR": lambda o: rates.CyclicLR(o, 0.1, 0.2), "ReduceLROnPlateau": lambda o: rates.ReduceLROnPlateau(o),
    "CosineAnnealingWarmRestarts": lambda o: rates.CosineAnnealingWarmRestarts(o, 4),
    "SequentialLR": lambda o: rates.SequentialLR(o, [rates.ConstantLR(o), rates.MultiStepLR(o, [3])], [2]),
    "ChainedScheduler": lambda o: rates.ChainedScheduler([rates.ConstantLR(o), rates.ExponentialLR(o, 0.9)]),
    "LambdaLR": lambda o: rates.LambdaLR(o, lambda step: 1 / (step + 1)), "LinearLR": lambda o: rates.LinearLR(o),
    "MultiplicativeLR": lambda o: rates.MultiplicativeLR(o, lambda step: 0.9), "PolynomialLR": rates.PolynomialLR,
}  # fmt: skip


def steps(ctx: Any, config: Any) -> None:
    model = ctx.prepare(torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    ctx.track(model=model, optimizer=optimizer)
    for batch in ctx.batches("train", batch_size=8):
        loss = (model(batch["x"]).squeeze(1) - batch["y"]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ctx.step(loss=loss)


def fit(tmp_path: Path, fn: Any = steps, **stage: Any) -> tuple[dict[str, Any], Any]:
    given, scope = make_scope(tmp_path, fn, Config(), **{"checkpoint_every_steps": 4, **stage})
    return run_train(given, scope, InlineGang()), scope


def test_rows_are_safe_before_the_checkpoint_that_ends_their_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a checkpoint is published the bundle has the rows of all its steps: no later attempt makes them again."""
    record, there = Scope.record, {}

    def look(scope: Scope, event: Event) -> Any:
        if isinstance(event, CheckpointPublished):
            there[event.step] = [row["step"] for row in metric_rows(scope.bundle, "fit", "rank0") if "loss" in row]
        return record(scope, event)

    monkeypatch.setattr(Scope, "record", look)
    fit(tmp_path)
    assert there == {step: list(range(1, step + 1)) for step in (4, 8, 12)}


# -- what is kept ----------------------------------------------------------------------------------------------------


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(5, 3)
        self.head = torch.nn.Linear(3, 5, bias=False)
        self.head.weight = self.table.weight
        self.register_buffer("brain", torch.arange(6, dtype=torch.bfloat16)[::2])
        self.register_buffer("part", self.table.weight.detach()[1:3])


def test_modules_are_safetensors_with_ties(tmp_path: Path) -> None:
    """Tied weights are written once, views and strides are no obstacle, and the file is plain safetensors."""
    from safetensors.torch import load_file

    module = Tied()
    name = checkpoint_files.write(tmp_path, "model", MODULE, module.state_dict())
    assert name == "model.safetensors"
    assert set(load_file(tmp_path / name)) == {"table.weight", "brain", "part"}
    state = checkpoint_files.read(tmp_path / name)
    assert set(state) == set(module.state_dict())
    assert all(torch.equal(state[key], value) for key, value in module.state_dict().items())


def test_equal_weights_are_equal_files(tmp_path: Path) -> None:
    """The same weights give the same bytes, so files can be compared by their hash."""
    torch.manual_seed(0)
    state = torch.nn.Linear(3, 3).state_dict()
    hashes = {
        checkpoint_files.sha256(tmp_path / checkpoint_files.write(tmp_path, f"m{i}", MODULE, state)) for i in range(5)
    }
    assert len(hashes) == 1


@pytest.mark.parametrize("kind", ["AdamW", "SGD", "Adagrad", "RMSprop"])
def test_optimizers_come_back_whole(tmp_path: Path, kind: str) -> None:
    """An optimizer and its schedule, read back with weights_only, go on as if nothing had happened."""

    def make() -> tuple[torch.nn.Linear, Any, Any]:
        torch.manual_seed(0)
        model = torch.nn.Linear(2, 1)
        optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.01)
        return model, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)

    def learn(model: Any, optimizer: Any, schedule: Any, times: int) -> None:
        for i in range(times):
            optimizer.zero_grad()
            model(torch.full((1, 2), float(i))).sum().backward()
            optimizer.step()
            schedule.step()

    first, second = make(), make()
    learn(*first, times=3)
    for name, a, b in zip(("model", "optimizer", "schedule"), first, second, strict=True):
        item = tracked(name, a)
        file = checkpoint_files.write(tmp_path, name, item.kind, take(item, []))
        put(tracked(name, b), checkpoint_files.read(tmp_path / file), [])
    learn(*first, times=3)
    learn(*second, times=3)
    assert torch.equal(first[0].weight, second[0].weight)


class Mode(enum.Enum):
    """How something is done."""

    FAST = "fast"
    SLOW = "slow"


class Span(NamedTuple):
    """From one place to another."""

    start: Any
    end: Any


VALUES: list[Any] = [
    collections.Counter({5: 1}), collections.defaultdict(list, {1: [np.float32(0.1)]}), {np.int64(3): "x", "y": (1, 2)},
    collections.deque([1, 2], maxlen=3), frozenset({1, "a"}), {1, 2}, np.float64(0.1), np.arange(3, dtype=np.int16),
    Mode.SLOW, Path("a/b"), datetime.timedelta(3), Span(1, Mode.FAST), torch.Size([2]), torch.float16, math.nan, -0.0,
    np.array(["a", "bc"]), np.array([b"x"]), np.arange(3, dtype=">i4"),
    [collections.OrderedDict(b=np.float32(1.5), a=(Mode.FAST, None))], slice(1, 3), range(4), b"x", 2**70, True,
]  # fmt: skip


class Outer:
    """Has a class in it."""

    class Inner(enum.Enum):
        A = 1
        B = 2


Named = collections.namedtuple("Otherwise", "a b")  # type: ignore[name-match]


class Holder:
    """Something with a state."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value, "tensor": torch.ones(2)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


@pytest.fixture
def _code_root() -> None:
    references.set_code_root(ROOT)


@pytest.mark.usefixtures("_code_root")
@pytest.mark.parametrize("number", range(len(VALUES)), ids=lambda n: type(VALUES[n]).__name__)
def test_states_come_back_as_they_were(tmp_path: Path, number: int) -> None:
    """A value in a state has its class again, and the file is read by torch alone without running code."""
    before, after = tracked("x", Holder(VALUES[number])), tracked("x", Holder(None))
    path = tmp_path / checkpoint_files.write(tmp_path, "x", STATE, take(before, []))
    notes = tmp_path / checkpoint_files.notes_of(path.name)
    put(after, checkpoint_files.read(path, notes if notes.exists() else None), [])
    assert config_kit.same(after.object.value, VALUES[number])
    assert set(torch.load(path, weights_only=True)) == {"value", "tensor"}


@pytest.mark.usefixtures("_code_root")
def test_tracked_values_come_back_as_they_were(tmp_path: Path) -> None:
    """Dicts and lists have their keys and classes again: numbers as keys, tuples, enums, numpy's scalars."""
    for value in ({"all": VALUES, 1: 11, (2, 3): Mode.FAST}, [1, (2, 3), {1: torch.Size([4])}]):
        file = checkpoint_files.write(tmp_path, "x", VALUE, take(tracked("x", value), []))
        target: Any = type(value)()
        put(tracked("x", target), checkpoint_files.read(tmp_path / file), [])
        assert config_kit.same(target, value)


def touch(path: str = "") -> Any:
    """What must not be called."""
    raise AssertionError(path)


class Own:
    """A class of the run's own code."""

    def __init__(self) -> None:
        touch()

    def __setstate__(self, state: Any) -> None:
        touch()


def ref(name: str, **more: Any) -> dict[str, Any]:
    """What the JSON of a value says of a class or function."""
    return {"kind": "FunctionRef", "name": name, **more}


HERE = {"file": "tests/unit/train/test_checkpoint.py", "module": "tests.unit.train.test_checkpoint"}
PICKLE = {"value": base64.b64encode(pickle.dumps(Span(1, 2))).decode()}
EVIL: list[Any] = [
    {"$": "enum", "class": ref("Mode", **PICKLE), "name": "SLOW"},
    {"$": "function", "function": ref("x", **PICKLE)},
    {"$": "enum", "class": ref("touch", **HERE), "value": "called"},
    {"$": "enum", "class": ref("Own", **HERE), "value": 1},
    {"$": "object", "class": ref("Mode", **HERE), "fields": {"_value_": 1}},
    {"$": "enum", "class": ref("system", module="os"), "value": "touch {path}"},
    {"$": "object", "class": ref("Popen", module="subprocess"), "fields": {"pid": 1}},
    {"$": "object", "class": ref("pickle.Pickler", **HERE), "fields": {}},
    {"$": "object", "class": ref("MonkeyPatch", module="pytest"), "fields": {}},
    {"$": "object", "class": ref("Counter", module="collections"), "fields": {}},
    {"$": "function", "function": ref("touch", **HERE)},
    {"$": "function", "function": ref("torch.optim.SGD", **HERE)},
    {"$": "partial", "function": {"$": "function", "function": ref("Own", **HERE)}, "args": [], "keywords": {}},
    {"$": "defaultdict", "factory": {"$": "function", "function": ref("getcwd", module="os")}, "items": []},
    {"$": "torch.dtype", "value": "torch.load"},
    {"$": "enum", "class": ref("X", file="{path}.py", module="evil"), "name": "A"},
    {"$": "enum", "class": ref("X", file="../evil.py", module="evil"), "name": "A"},
    {"$": "enum", "class": ref("Mode", module="antigravity"), "name": "A"},
    {"$": "enum", "class": ref("Mode", file="tests/unit/train/test_checkpoint.py", module="antigravity"), "name": "A"},
    {"$": "enum", "class": ref("Mode", module="tests.unit.record.test_failures"), "name": "A"},
]  # fmt: skip


@pytest.mark.usefixtures("_code_root")
@pytest.mark.parametrize("number", range(len(EVIL)))
@pytest.mark.parametrize("place", ["value", "named", "defaultdict"])
def test_no_json_of_a_checkpoint_runs_anything(tmp_path: Path, number: int, place: str) -> None:
    """Whatever class, function or pickle it names, and wherever: it is refused, and nothing is called or imported."""
    text = json.dumps(EVIL[number]).replace("{path}", str(tmp_path / "evil"))
    (tmp_path / "evil.py").write_text(f"import enum, pathlib\npathlib.Path({str(tmp_path / 'evil')!r}).touch()")
    sys.modules.pop("antigravity", None)
    with pytest.raises(SpecError):
        plain_state.exact({}, {"here": {place: json.loads(text)}})
    (tmp_path / "x.json").write_text(json.dumps([{"deep": json.loads(text)}]))
    with pytest.raises(SpecError):
        checkpoint_files.read(tmp_path / "x.json")
    assert not (tmp_path / "evil").exists()
    assert "antigravity" not in sys.modules


@pytest.mark.usefixtures("_code_root")
def test_objects_of_the_runs_own_classes_come_back(tmp_path: Path) -> None:
    """Of the project's classes, also nested ones and such as are called otherwise than they call themselves."""
    value = {"a": [config_kit.Adam(lr=0.5), Named(1, 2)], "b": {Outer.Inner.B: collections.defaultdict(Outer)}}
    file = checkpoint_files.write(tmp_path, "x", VALUE, take(tracked("x", value), []))
    made = checkpoint_files.read(tmp_path / file)
    assert config_kit.same(made, value)
    assert made["b"][Outer.Inner.B].default_factory is Outer


@pytest.mark.usefixtures("_code_root")
def test_classes_of_a_notebook_are_named_not_pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a worker they are those of its main module; a later worker finds its own by the same names."""
    text = "import enum\nclass Kind(enum.Enum):\n    A = 1\nclass Thing:\n    pass\n"

    def worker() -> ModuleType:
        main = ModuleType(MAIN)
        exec(text, vars(main))
        monkeypatch.setitem(sys.modules, "__main__", main)
        return main

    main = worker()
    thing = main.Thing()
    thing.kind = main.Kind.A
    file = checkpoint_files.write(tmp_path, "x", VALUE, take(tracked("x", [thing]), []))
    main = worker()
    (made,) = checkpoint_files.read(tmp_path / file)
    assert type(made) is main.Thing
    assert made.kind is main.Kind.A


@pytest.mark.usefixtures("_code_root")
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"f": touch}, r"x\['f'\] names the function touch"),
        ({"f": functools.partial(touch)}, "functools.partial, which calls a function"),
        ({"f": argparse.Namespace(a=1)}, "names argparse.Namespace"),
        ({"f": torch.optim.SGD}, "names torch.optim.sgd.SGD"),
        (Holder(collections.defaultdict(lambda: 0)), "names the function <lambda>"),
    ],
)
def test_what_only_code_could_make_again_is_refused_when_it_is_tracked(value: Any, words: str) -> None:
    """Functions, and objects of libraries with a state of their own; with what to keep in their place."""
    with pytest.raises(SpecError, match=words) as caught:
        tracked("x", value)
    assert caught.value.todo


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.usefixtures("_code_root")
@pytest.mark.parametrize("value", [{"a": nested(5000)}, Holder(nested(5000)), {"a": nested(101)}])
def test_what_is_nested_too_deeply_is_refused_when_it_is_tracked(value: Any) -> None:
    """A state that holds thousands of lists in each other is the user's to flatten, by its name."""
    with pytest.raises(SpecError, match="^ctx.track: x"):
        tracked("x", value)


@pytest.mark.parametrize("name", ["../x.pt", "a/x.pt", "/tmp/x.pt", ".x.pt", ""])
def test_files_of_a_checkpoint_lie_in_its_folder(tmp_path: Path, name: str) -> None:
    """A manifest that names a file elsewhere is no checkpoint; a name that would be elsewhere cannot be tracked."""
    _, scope = fit(tmp_path)
    checkpoints = Checkpoints(scope, scope.job.stages[0])  # type: ignore[arg-type]
    entry = checkpoints.published()[0]
    data = json.dumps({"files": {name: {"sha256": ""}}}).encode()
    scope.bundle.store.put(f"{entry.key}/manifest.json", data)
    with pytest.raises(Damaged, match=r"files, a key is .*, not a file"):
        checkpoints.opened(dataclasses.replace(entry, sha256=hashlib.sha256(data).hexdigest()))
    given, scope = make_scope(tmp_path / "other", lambda ctx, config: ctx.track(**{name: []}), Config())
    with pytest.raises(SpecError, match="the name"):
        run_train(given, scope, InlineGang())


@pytest.mark.usefixtures("_code_root")
@pytest.mark.parametrize("value", [{"a": [1, threading.Lock()]}, Holder([1, threading.Lock()]), Holder({1: object()})])
def test_what_cannot_be_kept_is_refused_when_it_is_tracked(value: Any) -> None:
    """A lock in a state or in a dict is refused by its place before any step is made."""
    with pytest.raises(SpecError, match=r"x\['(a|value)'\]\[1\] is a (_thread.lock|builtins.object)"):
        tracked("x", value)


@pytest.mark.usefixtures("_code_root")
@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_every_schedule_of_torch_comes_back(tmp_path: Path, name: str) -> None:
    """A schedule that is read back goes on with the rates of one that was never cut."""

    def make() -> Any:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=np.float64(0.1), momentum=0.9)
        return SCHEDULES[name](optimizer)

    def go(schedule: Any, steps: int) -> list[float]:
        rates = []
        for step in range(steps):
            schedule.optimizer.step()
            schedule.step(1.0 / (step + 1)) if name == "ReduceLROnPlateau" else schedule.step()
            rates.append(schedule.optimizer.param_groups[0]["lr"])
        return rates

    first, second = make(), make()
    go(first, 3)
    for part, a, b in (("o", first.optimizer, second.optimizer), ("s", first, second)):
        path = tmp_path / checkpoint_files.write(tmp_path, part, STATE, take(tracked(part, a), []))
        notes = tmp_path / checkpoint_files.notes_of(path.name)
        put(tracked(part, b), checkpoint_files.read(path, notes if notes.exists() else None), [])
    assert go(second, 6) == go(first, 6)


def test_random_states_come_back(tmp_path: Path) -> None:
    """Python's, numpy's and torch's generators go on with the same numbers, through a file of plain values."""
    import random

    def draw() -> list[float]:
        return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), float(torch.randn(()))]

    device = torch.device("cpu")
    draw()
    checkpoint_files.write(tmp_path, "r", STATE, randomness.get_state(device))
    expected = draw()
    draw()
    randomness.set_state(checkpoint_files.read(tmp_path / "r.pt"), device)
    assert draw() == expected


# -- publishing ------------------------------------------------------------------------------------------------------


def test_last_ones_are_kept(tmp_path: Path) -> None:
    """The last `keep` checkpoints stay; what a killed process left half-written goes with the next one."""
    leftover = tmp_path / "store" / "r260101-000000-test-abc" / "checkpoints" / "fit" / "000000003-1"
    leftover.mkdir(parents=True)
    (leftover / "model.safetensors").write_bytes(b"half")
    result, scope = fit(tmp_path, checkpoint_every_steps=2, keep=3)
    assert scope.bundle.store.list("checkpoints/fit") == ["000000008-1", "000000010-1", "000000012-1"]
    assert result["checkpoint"] == "checkpoints/fit/000000012-1"


def test_files_need_no_code_of_ours(tmp_path: Path) -> None:
    """A checkpoint is safetensors, weights_only files and JSON, with the sha256 of each in its manifest."""
    from safetensors.torch import load_file

    result, scope = fit(tmp_path)
    folder = Path(scope.bundle.store.path(result["checkpoint"]))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sorted(manifest["files"]) == ["model.safetensors", "optimizer.pt", "random-states.pt"]
    assert (manifest["step"], manifest["world_size"], manifest["samples"]) == (12, 1, 96)
    assert load_file(folder / "model.safetensors")["weight"].shape == (1, 4)
    assert "param_groups" in torch.load(folder / "optimizer.pt", weights_only=True)
    for name, facts in manifest["files"].items():
        assert checkpoint_files.sha256(folder / name) == facts["sha256"]


@pytest.mark.parametrize("damage", ["model.safetensors", "optimizer.pt", "manifest.json", "missing"])
def test_damaged_checkpoint_is_passed_over_aloud(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flipped byte or a missing file is found by its hash: the one before is taken, and it is said which and why."""
    _, scope = fit(tmp_path)
    folder = Path(scope.bundle.store.path("checkpoints/fit/000000012-1"))
    if damage == "missing":
        (folder / "optimizer.pt").unlink()
    else:
        data = bytearray((folder / damage).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / damage).write_bytes(data)
    result, _ = fit(tmp_path, attempt=2)
    assert result["resumed_from"] == 8
    assert result["steps"] == 12
    said = capsys.readouterr().out
    assert "000000012-1 is damaged" in said
    assert ("optimizer.pt" if damage == "missing" else damage) in said
    assert "going on from step 8" in said


def test_all_damaged_is_an_error(tmp_path: Path) -> None:
    """Where no checkpoint is whole, the training does not silently begin anew."""
    _, scope = fit(tmp_path)
    for path in Path(scope.bundle.store.path("checkpoints/fit")).glob("*/model.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(StoreError, match="damaged"):
        fit(tmp_path, attempt=2)


def test_fenced_attempt_publishes_nothing(tmp_path: Path) -> None:
    """After a newer attempt began, a checkpoint of the old one is refused and its files are removed."""

    def overtaken(ctx: Any, config: Any) -> None:
        for _ in ctx.batches("train", batch_size=8):
            ctx.step()
            if ctx.step_number == 6:
                log = scope.bundle.log
                log.append(Resumed())
                log.append(AttemptBegan(leg=0, attempt=2))

    given, scope = make_scope(tmp_path, overtaken, Config(), checkpoint_every_steps=4)
    with pytest.raises(Fenced):
        run_train(given, scope, InlineGang())
    assert scope.bundle.store.list("checkpoints/fit") == ["000000004-1"]
    assert [each.step for each in published(scope)] == [4]


@pytest.mark.parametrize("where", ["store", "scratch"])
def test_full_disk_leaves_nothing_half_made(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room in the store or in the scratch folder is a StoreError; the checkpoint before it is there to resume."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def no_room(ctx: Any, config: Any) -> None:
        ctx.track(model=ctx.prepare(torch.nn.Linear(4, 1)))
        for _ in ctx.batches("train", batch_size=8):
            ctx.step()
            if ctx.step_number == 6:
                monkeypatch.setattr(*(("shutil.copyfile",) if where == "store" else ("torch.save",)), refuse)

    with pytest.raises(StoreError, match=r"(?i)no space left"):
        fit(tmp_path, no_room)
    monkeypatch.undo()
    store = Store(str(tmp_path / "store" / "r260101-000000-test-abc"))
    assert store.list("checkpoints/fit") == ["000000004-1"]
    assert not list((tmp_path / "scratch").rglob("*.safetensors"))
    result, _ = fit(tmp_path, lambda ctx, config: [ctx.step() for _ in ctx.batches("train", batch_size=8)], attempt=2)
    assert (result["resumed_from"], result["steps"]) == (4, 12)


def test_code_that_tracks_another_name_is_told(tmp_path: Path) -> None:
    """A name that the checkpoint does not have is an error that lists those it has."""
    fit(tmp_path)
    with pytest.raises(SpecError, match="did you mean 'model'"):
        fit(tmp_path, lambda ctx, config: ctx.track(modell=torch.nn.Linear(4, 1)), attempt=2)


def test_newest_is_the_last_published_not_the_highest_step(tmp_path: Path) -> None:
    """After a fall back to an earlier step, what is published then is newer than what came before."""
    given, scope = make_scope(tmp_path, steps, Config())
    checkpoints = Checkpoints(scope, given)
    for step in (8, 4):
        folder = checkpoints.scratch(step)
        (folder / "x.json").write_text("{}")
        checkpoints.publish(step, folder, {"best": None}, {}, best=False)
    loaded, damaged = checkpoints.newest(checkpoints.published())
    assert loaded is not None
    assert (loaded.entry.step, damaged) == (4, [])


def test_remote_files_are_fetched_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a store that is no local folder, files are copied once, verified, and a damaged copy is fetched again."""
    monkeypatch.setattr("runner.train.checkpoint.published.LOCAL", "none is local")
    fit(tmp_path)
    result, _ = fit(tmp_path, attempt=2)
    assert result["resumed_from"] == 12
    copies = list((tmp_path / "scratch" / "fetched").rglob("*.safetensors"))
    assert len(copies) == 1
    copies[0].write_bytes(b"torn")
    given, again = make_scope(tmp_path, steps, Config(), attempt=3)
    checkpoints = Checkpoints(again, given)
    loaded, damaged = checkpoints.newest(checkpoints.published())
    assert loaded is not None
    assert (loaded.entry.step, damaged) == (12, [])
    assert loaded.read("model.safetensors")["weight"].shape == (1, 4)
