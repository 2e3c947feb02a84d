"""Values as JSON that says what they are: what is read back is what was written."""

from __future__ import annotations

import itertools
import json
import random
import sys
import threading
import types
from typing import Any

import numpy as np
import pytest

from runner.code import references
from runner.errors import SpecError
from runner.plan.keys import code_key, used_config
from runner.spec import Job, Prep, config
from runner.values import records
from tests import ROOT
from tests.unit.spec import config_kit as kit


@pytest.fixture(autouse=True)
def _code_root() -> None:
    references.set_code_root(ROOT)


def through(value: Any) -> Any:
    """The value as a worker reads it: through the strict JSON of the spec."""
    return config.config_from_json(json.loads(json.dumps(config.config_to_json(value, ROOT), allow_nan=False)))


def check(seed: int) -> None:
    draw = random.Random(seed)
    value = draw.choice(kit.RECORDS[:-2])(kit.value(draw))
    for made in (through(value), config.settled(value, ROOT)):
        assert kit.same(value, made), (seed, value, made)


@pytest.mark.parametrize("number", range(len(kit.LEAVES)), ids=lambda n: type(kit.LEAVES[n]).__name__)
def test_every_kind_of_value_arrives(number: int) -> None:
    """A field holds after the way what it held before: the same value of the same class."""
    given = kit.Plain(kit.LEAVES[number])
    assert kit.same(given, through(given))


def test_nested_values_arrive() -> None:
    """Whatever containers and objects are made of one another, what a worker reads is what was given."""
    for seed in range(300):
        check(seed)


@pytest.mark.soak
def test_many_nested_values_arrive() -> None:
    """The same, many times over."""
    for seed in range(300, 20_000):
        check(seed)


def test_post_init_is_done_once() -> None:
    """What `__post_init__` made of a config is what arrives, computed fields and attributes besides them too."""
    assert through(kit.Minutes(3.0)).timeout == 180
    assert through(kit.Scaled(scale=4.0)).lr == pytest.approx(0.4)
    heads = kit.Heads(dim=32)
    assert heads.lock is heads.lock  # a cached property is made where it is asked for
    made = through(heads)
    assert (made.head_dim, made.note) == (8, "besides its fields")
    assert isinstance(made.lock, type(threading.Lock()))


def test_a_set_is_the_same_text_everywhere() -> None:
    """The order in which a process hashes a set is no part of the spec."""
    texts = {json.dumps(config.config_to_json(kit.Plain(set(order)), ROOT)) for order in itertools.permutations("abc")}
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (threading.Lock(), "value['x'][0] is a _thread.lock, which cannot be sent"),
        (lambda: 1, "value['x'][0] is a lambda"),
        ((i for i in "abc"), "value['x'][0] is a generator"),
        (object(), "value['x'][0] is a object"),
        (kit.Heads().__init__, "value['x'][0] is <bound method"),
        (kit.pydantic.SecretStr("x"), "for all to read"),
        (np.array([object()]), "value['x'][0] is a numpy.ndarray"),
        (np.zeros(1, [("a", "i4")])[0], "value['x'][0] is a numpy.void"),
        (np.dtype([("a", "i4")]), "value['x'][0] is a numpy.dtypes.VoidDType"),
        (kit.Bare(kit.Plain(threading.Lock())), "value['x'][0].value.value is a _thread.lock"),
    ],
)
def test_what_cannot_travel_is_named(value: Any, words: str) -> None:
    """A value that no other process could have is refused by its place in the config."""
    with pytest.raises(SpecError) as caught:
        config.settled(kit.Plain({"x": [value]}), ROOT)
    assert words in str(caught.value)
    assert "config" in caught.value.where


def test_a_hash_that_attrs_keeps_is_computed_anew() -> None:
    """The object that arrives can be hashed, and its hash is not another process's."""
    for given in (kit.KeptHash(1), kit.OldKeptHash(1)):
        hash(given)
        made = config.settled(kit.Plain(given), ROOT).value
        assert (made, hash(made)) == (given, hash(given))


def test_what_typing_notes_on_an_object_does_not_travel() -> None:
    """An instance of a generic class that was made with its parameter is the same value as one without."""
    noted = kit.Box[int](1)
    assert hasattr(noted, "__orig_class__")
    assert config.config_to_json(noted, ROOT) == config.config_to_json(kit.Box(1), ROOT)
    assert through(noted) == config.settled(noted, ROOT) == kit.Box(1)


def test_a_member_that_is_gone_is_named() -> None:
    """An enum whose code is newer than the value says which members it has."""
    raw = config.config_to_json(kit.Plain(kit.Act.GELU), ROOT)
    raw["fields"]["value"]["name"] = "TANH"
    with pytest.raises(SpecError, match="Act has no member 'TANH'"):
        config.config_from_json(raw)


def test_a_circle_is_refused() -> None:
    """A value that lies in itself has no text."""
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(SpecError, match="value\\[0\\] is a list, which contains itself"):
        config.settled(kit.Plain(circle), ROOT)


def test_what_lies_in_a_local_class_is_refused() -> None:
    """A class that is defined inside a function is found by no other process, and is named."""

    class Local:
        pass

    with pytest.raises(SpecError, match="value"):
        config.settled(kit.Plain(Local()), ROOT)


def test_keys_of_results_differ_where_values_do() -> None:
    """No two values of a field that are not the same give the same key, so no result of one is taken for another's."""
    stage = Prep("p", fn=check, source="a", sink="b")
    keys: dict[str, Any] = {}
    for value in (
        *kit.LEAVES,
        [],
        (),
        {},
        set(),
        [1],
        (1,),
        [1.0],
        {1: 2},
        {"1": 2},
        {"a": 1, "b": 2},
        {"b": 2, "a": 1},
    ):
        values = config.config_values(config.config_to_json(kit.Plain(value), ROOT), ROOT)
        key = code_key(stage, "code", values)
        assert key not in keys, (value, keys[key])
        keys[key] = value


def used(value: Any, *uses: str) -> dict[str, Any]:
    """What of a config counts for a stage that uses these fields; none: all."""
    job = Job("j", config=value, stages=[Prep("p", fn=check, source="a", sink="b", uses=uses or None)])
    (stage,) = job.stages
    assert isinstance(stage, Prep)
    return used_config(stage, config.config_values(config.config_to_json(config.settled(value, ROOT), ROOT)))


def test_whatever_may_be_named_in_uses_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field counts also where the class alone has its value, or where its object says itself what is in it."""
    for kind in (kit.Fixed, kit.Stated, kit.Named, kit.Plain):
        for name in records.names(kind):
            first, second = kind(), kind()
            assert used(first, name) == used(second, name)
            setattr(second, name, 9)
            assert used(first, name) != used(second, name)
            assert used(first) != used(second)
    before = used(kit.Fixed(), "y")
    monkeypatch.setattr(kit.Fixed, "y", 5)
    monkeypatch.setattr(kit.Fixed.__dataclass_fields__["y"], "default", 5)
    assert used(kit.Fixed(), "y") != before
    assert through(kit.Fixed()).y == 5


def test_what_has_no_name_counts_where_all_does() -> None:
    """Entries of a dict that is a config count besides its fields, whatever those are called."""
    first, second = kit.Named(), kit.Named()
    second["a"] = 1
    assert used(first) != used(second)
    assert used(first, "entries") == used(second, "entries")


def test_numbers_of_numpy_become_what_is_declared() -> None:
    """np.float64 in a field of float is a float everywhere; where anything may stand it stays what it is."""
    made = config.settled(kit.Adam(lr=np.float64(0.1), betas=(np.float32(0.5), np.int64(1))), ROOT)  # type: ignore[arg-type]
    assert kit.same((made.lr, made.betas), (0.1, (0.5, 1)))
    assert kit.same(config.settled(kit.Plain(np.float32(0.5)), ROOT).value, np.float32(0.5))


def test_a_config_of_a_notebook_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class without a file travels by value, with the classes of its fields."""
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    scope = vars(sys.modules["__main__"])
    text = "@dataclass\nclass Inner:\n    x: int = 1\n@dataclass\nclass Config:\n    a: Inner\n"
    exec(f"from dataclasses import dataclass\n{text}", scope)
    made = through(scope["Config"](scope["Inner"](5)))
    assert (type(made).__name__, made.a.x) == ("Config", 5)
    assert config.settled(scope["Config"](scope["Inner"](5)), ROOT) == scope["Config"](scope["Inner"](5))
