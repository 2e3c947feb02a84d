from __future__ import annotations

import json
import re
import subprocess
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import runner
from runner import Dataset, Job, Prep
from runner.backends.fake import FakeBackend
from runner.backends.local import check as local_check
from runner.client.prepare import prepare
from runner.client.resume import resume
from runner.errors import InputError, PlanError, ProjectError, RunFailed, RunNotFound, SpecError
from runner.plan.project import find_project
from runner.record import Bundle, RunState
from runner.record.entries import Submitted
from runner.record.finding import find_run
from runner.record.index import new_run_id
from runner.record.trust import user
from runner.store import Store
from tests.unit.backends.fake_kit import FAKE, JOB, project
from tests.unit.record.index_kit import read_index

__all__ = ["project"]


def test_a_run_goes_through_its_legs_and_ends_with_a_receipt(project: Path) -> None:
    """Every stage is done once, in order, and the index shows the end."""
    run = runner.submit("tiny", cluster=FAKE)
    assert run.wait() is RunState.SUCCEEDED
    assert [s.state for s in run.view().stages.values()] == ["done", "done"]
    assert FakeBackend.started == [(run.id, 0, 1), (run.id, 1, 1)]
    receipt = run.view().receipt
    assert receipt is not None
    assert receipt.remains == {"processes": 0, "scratch_folders": 0}
    (line,) = read_index(run.bundle.root)
    assert (line.run_id, line.job, line.state) == (run.id, "tiny", "succeeded")


def test_a_failed_stage_fails_the_run_and_a_resume_repeats_only_what_is_not_done(project: Path) -> None:
    """The error is the stage's own; the resumed run starts at the leg that failed, with the next attempt."""
    FakeBackend.outcomes["tiny"] = {"train": "ValueError: nan"}
    run = runner.submit("tiny", cluster=FAKE)
    with pytest.raises(RunFailed, match="ValueError: nan"):
        run.wait()
    assert run.error is not None
    assert run.error["stage"] == "train"
    FakeBackend.outcomes.clear()
    resume(run)
    assert run.status == "succeeded"
    assert FakeBackend.started[-1] == (run.id, 1, 2)
    assert [line.state for line in read_index(run.bundle.root)] == ["succeeded"]


def test_a_succeeded_run_cannot_be_resumed(project: Path) -> None:
    """The error says what the run is and what can be resumed."""
    run = runner.submit("tiny", cluster=FAKE)
    with pytest.raises(InputError, match="succeeded"):
        resume(run)


def test_the_bundle_holds_what_the_run_is(project: Path) -> None:
    """spec.json and code.zip hold the job, resolved, and the code; the same code gives the same bytes."""
    run = runner.submit("tiny", cluster=FAKE, lr=0.5)
    spec = run.spec()
    fields = spec["job"]["config"]["fields"]
    assert fields.pop("model")["fields"] == {"layers": 2}
    assert fields == {"lr": 0.5, "words": 3, "epochs": 2}
    assert spec["job"]["stages"][0]["fn"]["file"] == "jobs/tiny.py"
    assert spec["datasets"]["text"]["url"] == str(project / "lake/*.jsonl")
    again = runner.submit("tiny", cluster=FAKE, lr=0.5)
    assert run.bundle.store.get("code.zip") == again.bundle.store.get("code.zip")


def test_the_plan_tells_stages_machines_data_and_prices(project: Path) -> None:
    """Machines follow from workers and shapes, bytes from the files, prices from the cluster."""
    made = prepare("tiny", cluster=FAKE).plan
    tokens, train = made.stages
    assert (tokens.machines, tokens.price_per_hour) == (2, 1.0)
    assert (train.machines, train.price_per_hour) == (2, None)
    assert tokens.inputs[0].rows == 4
    assert tokens.inputs[0].files == 2
    assert tokens.inputs[0].bytes == sum(p.stat().st_size for p in (project / "lake").iterdir())
    assert made.legs == (("tokens",), ("train",))
    assert json.loads(json.dumps(made.to_json()))["job"] == "tiny"


def test_more_machines_than_the_group_may_have_are_refused(project: Path) -> None:
    """The error names workers, machines and the most that fit."""
    with pytest.raises(PlanError) as caught:
        prepare("tiny", cluster=FAKE, changes={"train.workers": 9})
    assert "5 machines" in str(caught.value)
    assert "at most 2 machines, 4 workers" in str(caught.value)


def test_more_processes_than_this_machine_can_have_are_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is one more Python here; of a range there are no more than cores, so that any is allowed."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    with pytest.raises(PlanError, match="1,000 workers on this machine(.|\n)*at most 64: 32 for each of its 2 cores"):
        runner.submit("tiny", cluster="local", **{"train.workers": 1000})
    assert not (project / ".runner").exists()
    local_check.check(prepare("tiny", cluster="local", changes={"tokens.workers": (1, 1000)}).plan)


def test_a_misspelt_group_names_the_near_miss(project: Path) -> None:
    """on='gpuu' is refused with the groups that there are."""
    with pytest.raises(PlanError, match="did you mean 'gpu'"):
        prepare("tiny", cluster=FAKE, changes={"train.on": "gpuu"})


def test_nothing_is_written_when_the_input_is_wrong(project: Path) -> None:
    """A refused job leaves no store behind."""
    with pytest.raises(InputError):
        runner.submit("tiny", cluster=FAKE, nonsense=3)
    assert not (project / ".runner").exists()


def test_a_setting_by_which_data_runs_code_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing starts, and nothing is planned, in an environment in which Ray Data would unpickle what it reads."""
    monkeypatch.setenv("RAY_DATA_AUTOLOAD_PICKLE_OBJECT_SCALAR", "1")
    with pytest.raises(SpecError, match="your environment: RAY_DATA_AUTOLOAD_PICKLE_OBJECT_SCALAR='1'"):
        prepare("tiny", cluster=FAKE)
    assert not (project / ".runner").exists()


def test_an_unknown_job_names_the_near_miss(project: Path) -> None:
    """A misspelt stem or path is answered with what there is."""
    for wrong in ("tinny", "jobs/tinny.py"):
        with pytest.raises(ProjectError, match="tiny"):
            runner.submit(wrong)


def test_a_job_file_and_its_stem_are_of_one_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that has only `jobs/` is the project of `jobs/x.py` and of `x`, so that `ps` there finds the runs."""
    (tmp_path / "jobs").mkdir()
    path = tmp_path / "jobs/lone.py"
    lines = ["from runner import Job, Train", "def f(ctx, config): ...", "job = Job('lone', stages=[Train('t', fn=f)])"]
    path.write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    roots = {prepare(given).resolved.project.root for given in ("jobs/lone.py", str(path), "lone")}
    assert roots == {find_project().root} == {tmp_path.resolve()}
    monkeypatch.chdir(tmp_path.parent)
    assert prepare(str(path)).resolved.project.root == path.parent.resolve()


def test_a_job_file_without_a_job_is_refused(project: Path) -> None:
    """A file must hold exactly one Job."""
    (project / "jobs/none.py").write_text("x = 1\n")
    with pytest.raises(ProjectError, match="holds no Job"):
        runner.submit("none")


def test_of_several_jobs_in_a_file_one_is_named(project: Path) -> None:
    """`file.py:name` and `stem:name` mean the job of that name, no name the one called `job`; else all are named."""
    two = "given = {'stages': job.stages, 'config': Config()}\nsmall = Job('small', **given)\n"
    two += "large = Job('large', **given)\n"
    (project / "jobs/two.py").write_text(JOB + two)
    assert [prepare(r, cluster=FAKE).plan.job for r in ("two:small", "jobs/two.py:small", "two")] == [
        "small",
        "small",
        "tiny",
    ]
    with pytest.raises(ProjectError, match=r"did you mean 'small'"):
        prepare("two:smal", cluster=FAKE)
    (project / "jobs/two.py").write_text(JOB + two + "del job\n")
    with pytest.raises(ProjectError, match=r"holds 2 values of type Job: small, large(.|\n)*two.py:small"):
        prepare("two", cluster=FAKE)


def test_a_job_may_be_made_from_another_one(project: Path) -> None:
    """What a file imports is not what it holds, so a variant of an imported job is the job of its file."""
    line = "import dataclasses\nfrom jobs.tiny import job as base\njob = dataclasses.replace(base, name='variant')\n"
    (project / "jobs/variant.py").write_text(line)
    assert prepare("variant", cluster=FAKE).plan.job == "variant"


def test_a_submit_while_a_definition_is_imported_is_refused(project: Path) -> None:
    """A job file that calls submit at its top level cannot start runs by being imported."""
    (project / "jobs/bare.py").write_text(JOB + "\nimport runner\nrunner.submit(job)\n")
    with pytest.raises(ProjectError, match="__main__"):
        runner.submit("bare")


def test_run_ids_sort_by_time_and_fit_kubernetes() -> None:
    """Ids are legible, at most 28 characters, valid as a name, and later ones sort later."""
    moments = [1_700_000_000, 1_700_000_000.25, 1_700_000_000.5, 1_700_000_001]
    ids = [
        new_run_id(job, now) for job, now in zip(("a_Job-with_a-very-long-name", "z", "b", "a"), moments, strict=True)
    ]
    assert ids == sorted(ids)
    for run_id in ids:
        assert len(run_id) <= 28
        assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", run_id)
    assert ids[0].startswith("r231114-22132022-a-job-")


def test_runs_are_found_by_unique_parts_and_by_age(store: Store) -> None:
    """A run is meant by its id, a unique prefix or part, or @last; anything else names the candidates."""
    for run_id in ("r260101-000000-a-222", "r260101-000001-b-333", "r260102-000000-b-444"):
        Bundle(store, run_id).index("job", "succeeded", 3)
        Bundle(store, run_id).submit(Submitted("job", (), by=user()))
    assert find_run(store, "r260102") == "r260102-000000-b-444"
    assert find_run(store, "a-222") == "r260101-000000-a-222"
    assert find_run(store, "@last") == "r260102-000000-b-444"
    assert find_run(store, "@last~2") == "r260101-000000-a-222"
    with pytest.raises(RunNotFound, match="fits 2 runs"):
        find_run(store, "r260101")
    for wrong in ("zzz", "@last~3", "@last~x", "@lastx", "@last~", "@last~1~1", ""):
        with pytest.raises(RunNotFound):
            find_run(store, wrong)
    only = Store(f"{store.url}-2")
    Bundle(only, "r260101-000000-a-222").index("job", "succeeded", 3)
    with pytest.raises(RunNotFound):
        find_run(only, "")


def test_the_index_has_one_line_a_run(store: Store) -> None:
    """A new state replaces the line of the old one."""
    bundle = Bundle(store, "r260101-000000-job-22")
    bundle.index("job", "live")
    bundle.index("job", "failed", 12.3)
    assert [(line.state, line.seconds) for line in read_index(store)] == [("failed", 12.0)]


def transform(batch: Any, config: Any) -> Any:
    return batch


def one_argument(batch: Any) -> Any:
    return batch


def fit(ctx: Any, config: Any) -> None: ...


@dataclass(frozen=True)
class Config:
    lr: float = 0.1


def test_a_function_with_the_wrong_arguments_is_refused(project: Path) -> None:
    """fn must take the two arguments that it will be given."""
    job = Job("j", stages=[Prep("p", fn=one_argument, source=Dataset(url="lake/*.jsonl"), sink="x")])
    with pytest.raises(InputError, match=r"\(batch, config\)"):
        prepare(job, cluster=FAKE)


def test_a_dataset_value_needs_no_name(project: Path) -> None:
    """Datasets may be given by value; relative URLs mean the project's folder."""
    url = str(project / "lake/*.jsonl")
    job = Job("j", stages=[Prep("p", fn=transform, source=Dataset(url=url), sink="x")], config=Config())
    assert prepare(job, cluster=FAKE).plan.stages[0].inputs[0].rows == 4


def test_settings_of_the_project_are_checked(project: Path) -> None:
    """A misspelt key in [tool.runner] is refused; the right one moves the store."""
    (project / "pyproject.toml").write_text('[tool.runner]\nstor = "x"\n')
    with pytest.raises(ProjectError, match="did you mean 'store'"):
        runner.submit("tiny", cluster=FAKE)
    (project / "pyproject.toml").write_text('[tool.runner]\nstore = "elsewhere"\n')
    run = runner.submit("tiny", cluster=FAKE)
    assert run.bundle.root.url == str(project / "elsewhere")


def test_git_decides_which_files_travel(project: Path) -> None:
    """Files that git ignores are not in the bundle, nor are credentials; a large project is refused with its largest
    files.
    """
    import io
    import zipfile

    subprocess.run(["git", "init", "-q"], check=True)
    (project / ".gitignore").write_text("secret.txt\n.runner/\n")
    (project / "secret.txt").write_text("x")
    (project / "helper.py").write_text("y = 1\n")
    hidden = (
        "lake.env", ".env", "ca.key", "me.p12", "me.pfx", "kubeconfig", "kubeconfig-red.yaml", "id_rsa",
        "id_ed25519.old", "credentials", "credentials.json", "service-account-a.json", ".docker/config.json",
        "my-credentials.txt", "LAKE.ENV",
        ".aws/config", "deep/.kube/config",
    )  # fmt: skip
    sources = ("credentials.py", "kubeconfig.py", "id_rsa_tools.py", "config.json")
    for name in (*hidden, *sources):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("AWS_SECRET_ACCESS_KEY=hidden\n" if name in hidden else "z = 1\n")
    run = runner.submit("tiny", cluster=FAKE)
    names = zipfile.ZipFile(io.BytesIO(run.bundle.store.get("code.zip"))).namelist()
    assert "project/helper.py" in names
    assert not {"secret.txt", *hidden} & {name.removeprefix("project/") for name in names}
    assert {f"project/{name}" for name in sources} <= set(names)
    assert "runner/spec/job.py" in names
    (project / "large.bin").write_bytes(b"\0" * (65 << 20))
    with pytest.raises(ProjectError, match="large.bin"):
        runner.submit("tiny", cluster=FAKE)


def test_textwrap_of_errors_has_four_parts() -> None:
    """An input error shows where, what was found, what is allowed and what to do."""
    text = str(InputError("found", allowed="allowed", todo="do", where="where"))
    assert text == textwrap.dedent("""\
        where: found
          allowed: allowed
          to do:   do""")
