from __future__ import annotations

import json
import os
import pickle
import sys
import traceback
import types
from collections.abc import Callable

import pytest

from runner import errors
from runner.code import references
from runner.errors import (
    ApiError,
    Cause,
    DataError,
    Explained,
    InputError,
    InternalError,
    OutOfMemory,
    RunFailed,
    RunnerError,
    StoreAway,
    StoreError,
    StoreRefused,
    UserCodeError,
    WorkerAway,
    WorkerLost,
)
from runner.kube.client import KubeError
from runner.record.endings import Ending
from runner.record.failures import NAMES, Failure, cause_of, exit_code_of, failed, is_a
from runner.train.failure import as_runner_error
from runner.worker.pool.child import answer


def made(kind: type[RunnerError]) -> RunnerError:
    if issubclass(kind, Explained):
        return kind("found", allowed="allowed", todo="todo", where="where")
    if issubclass(kind, UserCodeError):
        return kind("said", trace="Traceback", rank=3)
    if issubclass(kind, InternalError):
        return kind("said", trace="Traceback")
    return kind(0, "said") if issubclass(kind, ApiError) else kind("said")


def again(failure: Failure) -> Failure:
    """As a log has it."""
    return Failure.from_json(json.loads(json.dumps(failure.to_json())))


@pytest.mark.parametrize("kind", NAMES.values(), ids=NAMES)
def test_an_error_keeps_its_class_and_words_through_the_log(kind: type[RunnerError]) -> None:
    """As JSON and back, and from process to process."""
    error = made(kind)
    for other in (again(Failure.of(error)).to_error(), pickle.loads(pickle.dumps(error))):
        assert type(other) is kind
        assert (str(other), vars(other)) == (str(error), vars(error))


def test_words_with_halves_of_characters_can_be_kept() -> None:
    """A name of a file that is no UTF-8 has some: the log takes what the user's function has said of it."""
    words = os.fsdecode(b"caf\xe9.csv")
    error = UserCodeError(f"FileNotFoundError: {words}", trace=f"Traceback: {words}")
    for failure in (Failure.of(error), Failure.of(DataError(words, where=words)), failed(RunFailed, words)):
        assert again(failure) == failure
        assert "caf\\udce9.csv" in failure.message
        assert failure.trace in ("", "Traceback: caf\\udce9.csv")


def test_every_class_has_a_name_in_the_log() -> None:
    """Whoever adds one to the tree adds it there, or it would be read back as its base."""

    def below(kind: type[RunnerError]) -> set[type[RunnerError]]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    ours = {kind for kind in below(RunnerError) if kind.__module__ == "runner.errors"}
    assert ours - set(NAMES.values()) == {Explained}


def test_a_class_that_the_log_has_no_name_for_is_kept_as_its_base() -> None:
    """An error of the Kubernetes API comes back as one of an API; one that only a newer runner knows as a failure."""
    assert Failure.of(KubeError(403, "Forbidden", "no")).name == "ApiError"
    assert type(Failure("OfTheFuture", "x").to_error()) is RunFailed


@pytest.mark.parametrize("kind", NAMES.values(), ids=NAMES)
def test_an_error_keeps_its_cause_through_the_log(kind: type[RunnerError]) -> None:
    """Also one that is told more precisely than by its class."""
    error = made(kind)
    assert Failure.of(error).cause is error.cause
    error.cause = Cause.PREEMPTED
    assert again(Failure.of(error)).to_error().cause is Cause.PREEMPTED


def test_an_entry_of_before_there_were_causes_has_that_of_its_class() -> None:
    """So has one whose cause, or class, only a newer runner knows."""
    assert cause_of("OutOfMemory", "of the future") is Cause.OUT_OF_MEMORY
    before = Failure.from_json({"class": "OutOfMemory", "message": "no room"})
    assert before.cause is before.to_error().cause is Cause.OUT_OF_MEMORY
    assert cause_of("OfTheFuture", "") is Cause.FAILED


def test_a_store_that_is_away_is_no_wrong_input() -> None:
    """What cannot be reached exits 1; what was named and cannot be used exits 2."""
    assert not issubclass(StoreAway, InputError)
    assert (StoreError.exit_code, StoreAway.exit_code, StoreRefused.exit_code) == (1, 1, 2)


@pytest.mark.parametrize("kind", NAMES.values(), ids=NAMES)
def test_what_is_known_later_is_said_by_the_error(kind: type[RunnerError]) -> None:
    """Whoever waits for a run is told what it was in the midst of, and what the machines say of its end, once each."""
    failure = Failure.of(made(kind)).amended(before="at its start", causes=["the node is gone", "said", "found"])
    read = again(failure).to_error()
    assert type(read) is kind
    assert "at its start: " in str(read)
    assert str(read).count("the node is gone") == 1
    assert str(read).count("said") <= 1


def test_last_words_come_with_an_error_of_any_class() -> None:
    """What a supervisor printed before it was gone is the trace of the error that says so."""
    read = failed(WorkerLost, "gone", trace="ImportError: x").to_error()
    assert read.trace == "ImportError: x"
    assert Failure.of(read).trace == read.trace
    assert read._render_traceback_()[0] == "ImportError: x"


def test_decisions_go_by_the_class() -> None:
    """Of an entry, bases included, whatever its words are."""
    failure = Failure.of(OutOfMemory("DataError"))
    assert is_a(failure, WorkerLost)
    assert not is_a(failure, DataError)
    assert not is_a(None, RunnerError)
    assert (exit_code_of(failure), exit_code_of(Failure.of(DataError("x"))), exit_code_of(None)) == (1, 2, 1)


def raised(code: str, file: str) -> BaseException:
    """What a file of that name raises."""
    try:
        exec(compile(code, file, "exec"), {"ours": references.ours})
    except BaseException as error:
        return error.with_traceback(getattr(error.__traceback__, "tb_next", None))
    raise AssertionError("nothing was raised")


OURS = errors.__file__


def test_an_error_without_a_line_of_the_user_is_a_bug_of_runner() -> None:
    """Whose it is goes by the frames on its way."""
    bug = references.as_ours(raised("{}['x']", OURS))
    assert isinstance(bug, InternalError)
    assert bug.message == "KeyError: 'x'"
    assert OURS in bug.trace
    theirs = references.as_ours(raised("import json\njson.loads('{')", "/project/jobs/x.py"))
    assert isinstance(theirs, UserCodeError)
    assert "(/project/jobs/x.py:2 in <module>)" in theirs.message


def test_a_part_of_ours_around_the_users_code_says_whose_the_error_is() -> None:
    """Errors of ours and of the user pass; a bug is named as one."""
    code = "with ours():\n    {}['x']"
    bug = raised(code, OURS)
    assert (type(bug), str(bug)) == (InternalError, "KeyError: 'x'")
    assert type(raised(code, "/p/x.py")) is KeyError
    assert (
        type(raised("from runner.errors import DataError\nwith ours():\n    raise DataError('x')", OURS)) is DataError
    )


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys\nsys.exit(0)", "the function called sys.exit(0) (/p/x.py:2 in <module>)"),
        ("raise SystemExit", "the function called sys.exit(None) (/p/x.py:1 in <module>)"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt (/p/x.py:1 in <module>)"),
        ("class Stop(BaseException): ...\nraise Stop('mine')", "Stop: mine (/p/x.py:2 in <module>)"),
        ("error = ValueError('x')\nerror.add_note('more')\nraise error", "ValueError: x (/p/x.py:3 in <module>)"),
    ],
)
def test_whatever_the_users_function_raises_is_the_users(code: str, words: str) -> None:
    """Also what ends a process elsewhere, in a rank and in a worker of a pool."""
    told = as_runner_error(1, raised(code, "/p/x.py"))
    assert isinstance(told, UserCodeError)
    assert (told.message.replace("builtins.", ""), told.rank) == (words, 1)

    def fail(item: int) -> None:
        raise raised(code, "/p/x.py")

    kind, value = pickle.loads(answer(fail, 0))
    assert kind == "error"
    assert isinstance(value, UserCodeError | ValueError)
    assert words.partition(" (")[0].partition(": ")[2] in str(value)


@pytest.mark.parametrize("folder", ["/usr/lib/python3/dist-packages/lib", "/env/lib/python3.11/site-packages/lib"])
def test_an_installed_library_is_not_the_user(folder: str) -> None:
    """Wherever an environment or a system keeps it: its error without a line of the user is no error of theirs."""
    assert isinstance(references.as_ours(raised("{}['x']", f"{folder}/a.py")), InternalError)
    code = f"exec(compile('def f(): return {{}}[0]', '{folder}/a.py', 'exec'))\nf()"
    theirs = references.as_ours(raised(code, "/p/jobs/x.py"))
    assert isinstance(theirs, UserCodeError)
    assert "(/p/jobs/x.py:2 in <module>)" in theirs.message


def class_of(file: str | None) -> type:
    """A dataclass of a module with that file, whose `__init__` is generated and whose `__post_init__` raises."""
    module = types.ModuleType("held")
    if file is not None:
        module.__file__ = file
    code = (
        "import dataclasses\n@dataclasses.dataclass\nclass C:\n    x: int = 0\n    def __post_init__(self): {}[self.x]"
    )
    sys.modules["held"] = module
    try:
        exec(compile(code, file or "<string>", "exec"), module.__dict__)
    finally:
        del sys.modules["held"]
    return module.C  # type: ignore[no-any-return]


def failing(make: Callable[[], object]) -> BaseException:
    with pytest.raises(KeyError) as caught:
        make()
    trace = caught.value.__traceback__
    assert trace is not None
    return caught.value.with_traceback(trace.tb_next)


def test_generated_code_is_of_whom_it_was_generated_for() -> None:
    """A dataclass of ours or of a library leads to no user; one of the user's does, and the place is in their file."""
    for file in (OURS, "/env/lib/python3.11/site-packages/lib/a.py"):
        error = failing(class_of(file))
        assert any(frame.filename == "<string>" for frame in traceback.extract_tb(error.__traceback__))
        assert isinstance(references.as_ours(error), InternalError)
    theirs = references.as_ours(failing(class_of("/p/jobs/x.py")))
    assert isinstance(theirs, UserCodeError)
    assert "(/p/jobs/x.py:5 in __post_init__)" in theirs.message
    misfit = references.as_ours(
        raised("import dataclasses\nK = dataclasses.make_dataclass('K', ['x'])\nK()", "/p/x.py")
    )
    assert "(/p/x.py:3 in <module>)" in str(misfit)


@pytest.mark.parametrize(
    ("file", "name", "is_theirs"),
    [
        ("<string>", "__main__", True),
        ("<stdin>", "__main__", True),
        ("<ipython-input-3-ab>", "__main__", True),
        ("<string>", "attrs", False),
        ("<attrs generated init K>", None, False),
    ],
)
def test_what_is_in_no_file_is_the_users_where_they_typed_it(file: str, name: str | None, is_theirs: bool) -> None:
    """`python -c`, the prompt and a notebook's cell are; what a library had made is not."""
    names: dict[str, object] = {} if name is None else {"__name__": name}
    with pytest.raises(ZeroDivisionError) as caught:
        exec(compile("1 / 0", file, "exec"), names)
    trace = caught.value.__traceback__
    assert trace is not None
    told = references.as_ours(caught.value.with_traceback(trace.tb_next))
    assert isinstance(told, UserCodeError if is_theirs else InternalError)
    assert (f"({file}:1 in <module>)" in str(told)) is is_theirs


@pytest.mark.parametrize(
    ("kind", "endings", "cause"),
    [
        (WorkerLost, [Ending("the kernel killed rank0", Cause.OUT_OF_MEMORY)], Cause.OUT_OF_MEMORY),
        (WorkerAway, [Ending("gone", Cause.MACHINE_LOST), Ending("full", Cause.EVICTED)], Cause.EVICTED),
        (WorkerAway, [Ending("gone", Cause.MACHINE_LOST)], Cause.MACHINE_LOST),
        (UserCodeError, [Ending("full", Cause.EVICTED)], Cause.USER_ERROR),
        (WorkerLost, [], Cause.MACHINE_LOST),
    ],
)
def test_the_machines_know_why_a_process_is_gone(kind: type[RunnerError], endings: list[Ending], cause: Cause) -> None:
    """The driver only saw that it is: their cause is the failure's, which an exception of the user's keeps its own."""
    failure = failed(kind, "rank 0 ended").explained(endings)
    assert failure.cause is cause
    assert failure.causes == tuple(each.words for each in endings)
    assert all(each.words in failure.message for each in endings)
