"""The commands that make something happen: submit, resume, cancel. An attached run is followed to its end."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import typer
from rich.text import Text

from runner.backends.kuberay.kind import kubernetes_of
from runner.cli.attach import Attached, Detached
from runner.cli.console import Commands, Output, console, debugged, interactive, print_json, print_table, say
from runner.cli.failures import print_failure
from runner.cli.plan_table import print_plan
from runner.cli.queries import commands_for, look
from runner.cli.screens import LiveScreen, PlainScreen, Screen
from runner.cli.summary import next_commands, print_commands, print_run
from runner.client.prepare import prepare
from runner.client.resume import go_on, prepare_resume
from runner.client.run import Run
from runner.client.submit import check_machines, create, launch, watch_inline
from runner.code import extras
from runner.code.archive import left_out
from runner.errors import InputError, Interrupted, NotYours, RunnerError, listed, suggest
from runner.plan.project import find_project
from runner.process import interrupts, streams
from runner.record import RunState, View, fold, origin
from runner.record.failures import exit_code_of
from runner.record.index import new_run_id
from runner.record.trust import user
from runner.spec import Job
from runner.spec.changes import parse_assignments
from runner.views.documents import run_document
from runner.views.run import see

if TYPE_CHECKING:
    from runner.client.revise import Revision
    from runner.plan.resolve import Resolved

#: Seconds that `cancel` waits for the end.
CANCEL_WAIT_S = 60.0


@dataclass(frozen=True)
class Beginning:
    """From which run a training begins, if not from the start; and with all that is tracked, or its weights alone."""

    start_from: str | None = None
    everything: bool = False


def submit(
    job: str | Job,
    cluster: str | None,
    store: str | None,
    changes: list[str],
    begins: Beginning,
    *,
    detach: bool,
    inline: bool,
    dry_run: bool,
    output: Output,
    force: bool | str = False,
) -> None:
    """Check a job and start its run; follow it unless detached."""
    if begins.everything and begins.start_from is None:
        raise InputError("--with-optimizer without --from", allowed="both", todo="name the run to begin from")
    if inline and detach:
        raise InputError("--inline and --detach", allowed="one of the two", todo="leave one out")
    if inline:
        watch_inline(late=False)
    prepared = prepare(
        job,
        cluster=cluster,
        store=store,
        changes=parse_assignments(changes),
        force=force,
        start_from=begins.start_from,
        start_with="all" if begins.everything else "weights",
    )
    stay = left_out(find_project(), prepared.resolved.store) if dry_run else []
    if output is Output.TEXT:
        print_plan(console(), prepared.plan, inline)
        for stage, found in (prepared.begins or {"stages": {}})["stages"].items():
            _say(output, f"{stage} begins from {found['run']}, step {found['step']}")
    elif dry_run:
        print_json({**prepared.plan.to_json(), "stay_behind": stay})
    if dry_run:
        for words in check_machines(prepared):
            _warn(words)
        if output is Output.TEXT and stay:
            _say(output, f"stay behind, as credentials or as links out of the project: {', '.join(stay)}")
        return
    commands = commands_for(prepared.resolved.store, store)
    interrupts.check()
    run = create(prepared, inline=inline, say=_warn)
    if inline:
        _run_inline(run, prepared.resolved, commands, output)
    with _cancelled_by_ctrl_c(run, commands, output):
        launch(run)
        if detach:
            _say_detached(run, commands, output)
            return
        _say(output, f"run {run.id} started; Ctrl-C cancels it")
        _follow(Attached(run, _screen(output)), commands, output)


def why_run(stage: str, job: str | None, changes: list[str], store: str | None, output: Output) -> None:
    """Say why a submit would make a stage again, or skip it."""
    if job is None:
        stems = find_project().stems(Job)
        if len(stems) != 1:
            raise InputError("no job", allowed=listed(stems), todo=f"say `runner why-run {stage} JOB`")
        job = stems[0]
    plan = prepare(job, store=store, changes=parse_assignments(changes)).plan
    preps = {each.name: each for each in plan.stages if each.kind == "prep"}
    if stage not in preps:
        where = f"Job '{plan.job}'"
        raise InputError(f"no Prep '{stage}'", allowed=listed(preps), todo=suggest(stage, preps), where=where)
    found = preps[stage]
    if output is Output.JSON:
        print_json({"stage": stage, "job": plan.job, "action": found.action, "why": list(found.why)})
        return
    say(f"{stage}: {found.action}")
    for words in found.why:
        say(f"  {words}")


def print_objects(job: str, cluster: str | None, store: str | None, changes: list[str], *, dry_run: bool) -> None:
    """Print what a submit would apply to Kubernetes, and apply nothing."""
    extras.need("kube", "-o yaml")
    import yaml

    from runner.backends.kuberay import check as kuberay_check

    if not dry_run:
        raise InputError("-o yaml without --dry-run", allowed="-o yaml with --dry-run", todo="add --dry-run")
    prepared = prepare(job, cluster=cluster, store=store, changes=parse_assignments(changes))
    cluster_file = prepared.resolved.cluster
    todo = "name such a cluster with --cluster; `-o json` prints the plan of any"
    kubernetes_of(cluster_file, f"-o yaml on a cluster of backend '{cluster_file.backend}'", todo)
    run_id = new_run_id(prepared.resolved.job.name)
    made = kuberay_check.objects(prepared.resolved, prepared.plan, run_id, user())
    say(yaml.safe_dump_all(made, sort_keys=False), nl=False)


@dataclass(frozen=True)
class Wanted:
    """What a resume is to change; see `runner.resume`."""

    new_code: bool
    changes: list[str]
    workers: int | None
    until: list[str]
    drop: list[str]
    trust: bool = False


def resume(run: Run, url: str | None, wanted: Wanted, *, detach: bool, output: Output) -> None:
    """Go on with a run; follow it unless detached."""
    commands = commands_for(run.bundle.root, url)
    trusted = wanted.trust or _is_trusted(run, output)
    if run.view().state is RunState.LOST:
        _say_ended(run)
    until = parse_assignments(wanted.until)
    resumption = prepare_resume(
        run,
        new_code=wanted.new_code,
        changes=parse_assignments(wanted.changes),
        workers=wanted.workers,
        until=until,
        drop=wanted.drop,
        trusted=trusted,
    )
    if resumption.revision is not None and output is Output.TEXT:
        _print_revision(resumption.revision, wanted.new_code)
    attached = None if detach else Attached(run, _screen(output), from_now=True)
    interrupts.check()
    with _cancelled_by_ctrl_c(run, commands, output):
        go_on(run, resumption)
        if attached is None:
            _say_detached(run, commands, output, "goes on")
            return
        _say(output, f"run {run.id} goes on; Ctrl-C cancels it")
        _follow(attached, commands, output)


def _is_trusted(run: Run, output: Output) -> bool:
    """Whether the user says so of a run that he has not signed; asked where somebody is there to answer."""
    try:
        origin.take(run.bundle, trusted=False)
    except NotYours as refused:
        if output is not Output.TEXT or not (interactive(sys.stdin) and interactive(sys.stderr)):
            raise
        say(f"{refused.where}: {refused.found}", err=True)
        if not typer.confirm("start that as yourself?", err=True):
            raise
        return True
    return False


def _print_revision(revision: Revision, new_code: bool) -> None:
    """What differs from the run as it was, and where it comes from."""
    from runner.cli.tables import revision_table

    if revision.lines:
        print_table(console(), revision_table(revision))
    rest = "all as it was"
    if new_code:
        source = revision.spec.source
        rest = "the functions are the project's now, stages and config as they were"
        rest = f"functions, stages and config are those of {source} now" if source else rest
    console().print(
        Text(f"{'besides: ' if revision.lines else ''}{rest}; stages that are done stay done"), soft_wrap=True
    )


def cancel(run: Run, commands: Commands, output: Output, *, gone: bool = False) -> None:
    """End a run and wait for its end; one whose cluster is `gone`, in its log alone."""
    if run.view().state is RunState.LOST:
        _say_ended(run)
    asked = not fold(run.bundle.log.read()).state.ended
    if gone:
        run.write_off(user())
    elif run.cancel(by="runner cancel"):
        run.wait(timeout_s=CANCEL_WAIT_S, check=False)
        run.end_unstarted()
    view = look(run, commands)
    if output is Output.JSON:
        print_json(run_document(see(run, view, time.time())))
    elif not asked:
        say(f"{run.id} has ended already: {view.state}")
    elif view.state.ended:
        say(f"{run.id} {view.state}")
        print_commands(console(), [commands("resume", run.id)] if view.state is not RunState.SUCCEEDED else [])
    else:
        say(f"{run.id} was asked to end, and has not ended yet")
        print_commands(console(), [commands("status", run.id)])


def _say_ended(run: Run) -> None:
    words = f"{run.id} was lost: its supervisor is gone (killed, or the machine restarted). It is ended now."
    console(sys.stderr).print(Text(words, "yellow"), soft_wrap=True)


# -- following -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _cancelled_by_ctrl_c(run: Run, commands: Commands, output: Output) -> Iterator[None]:
    """From the moment when a run exists until it is followed, and after that: the run is ended as it would be then."""
    try:
        yield
    except KeyboardInterrupt:
        if run.cancel(by="Ctrl-C"):
            run.wait(timeout_s=CANCEL_WAIT_S, check=False)
            run.end_unstarted()
        _end(run, run.view(), commands, output, interrupted=True)
    except OSError as error:
        code = streams.code_of(error)
        if code is None:
            raise
        _say_left(run, commands)
        raise typer.Exit(code) from None


def _say_left(run: Run, commands: Commands) -> None:
    words = f"left {run.id}; `{commands('status', run.id)}` tells how it ends"
    console(sys.stderr).print(Text(words), soft_wrap=True)


def _say(output: Output, words: str) -> None:
    if output is Output.TEXT:
        console().print(Text(words), soft_wrap=True)


def _warn(words: str) -> None:
    console(sys.stderr).print(Text(f"warning: {words}", "yellow"), soft_wrap=True)


def _say_detached(run: Run, commands: Commands, output: Output, what: str = "started") -> None:
    if output is Output.JSON:
        print_json(run_document(see(run, run.view(), time.time())))
        return
    _say(output, f"run {run.id} {what}")
    following = [commands("logs", run.id, "-f"), commands("status", run.id), commands("cancel", run.id)]
    print_commands(console(), following)


def _screen(output: Output) -> Screen:
    if output is Output.JSON:
        return PlainScreen(sys.stderr)
    return LiveScreen(console()) if interactive(sys.stdout) else PlainScreen(sys.stdout)


def _follow(attached: Attached, commands: Commands, output: Output) -> NoReturn:
    run = attached.run
    try:
        view = attached.follow()
    except Detached:
        _say_left(run, commands)
        raise typer.Exit(Interrupted.exit_code) from None
    _end(run, view, commands, output, interrupted=attached.interrupted)


def _run_inline(run: Run, resolved: Resolved, commands: Commands, output: Output) -> NoReturn:
    """Run the stages here. A debugger gets the user's exception as it is; without one it is printed as theirs."""
    _say(output, f"run {run.id} inline, in this process")
    aside = contextlib.redirect_stdout(sys.stderr) if output is Output.JSON else contextlib.nullcontext()
    try:
        with aside:
            launch(run, resolved)
    except RunnerError:
        if run.view().error is None:
            raise
    except BaseException as error:  # sys.exit too: it is the function's, and this process ends with the run's code
        if isinstance(error, KeyboardInterrupt) and interrupts.by_user():
            _end(run, run.view(), commands, output, interrupted=True)
        if debugged():
            raise
        _end(run, run.view(), commands, output)
    _end(run, run.view(), commands, output)


def _end(run: Run, view: View, commands: Commands, output: Output, *, interrupted: bool = False) -> NoReturn:
    """Say how a run ended and leave with its code."""
    seen = see(run, view, time.time())
    if output is Output.JSON:
        print_json(run_document(seen))
    else:
        print_run(console(), seen)
        if seen.failure is None:
            print_commands(console(), next_commands(seen, commands))
    if seen.failure is not None:
        print_failure(console(sys.stderr), seen, commands)
    raise typer.Exit(exit_code(view, interrupted))


def exit_code(view: View, interrupted: bool = False) -> int:
    """0 for success, 130 if the user has cancelled it from here, otherwise that of its error."""
    if view.state is RunState.SUCCEEDED or view.is_complete:
        return 0
    if interrupted and view.state is RunState.CANCELLED:
        return Interrupted.exit_code
    return exit_code_of(view.error)
