"""``python -m runner.onebox``: a real one-machine Kubernetes, up and down."""

from __future__ import annotations

import argparse
import shlex
import sys

from runner.errors import InputError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runner.onebox", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="start what does not run; the first time takes as long as compiling it")
    up.add_argument("--no-kueue", action="store_true", help="without queues")
    up.add_argument("--fresh", action="store_true", help="remove a cluster that is there, first")
    up.set_defaults(run=_up)
    commands.add_parser("down", help="remove every trace of it").set_defaults(run=_down)
    commands.add_parser("status", help="what runs and what does not").set_defaults(run=_status)
    commands.add_parser("env", help="the variables that make clients use it, for eval").set_defaults(run=_env)
    commands.add_parser("build", help="compile everything and start nothing").set_defaults(run=_build)
    kwok = commands.add_parser("kwok", help="have so many simulated nodes; 0 removes them")
    kwok.add_argument("nodes", type=int, help="how many")
    kwok.set_defaults(run=_kwok)
    return parser


def say(text: str) -> None:
    """Tell the user, apart from what a program reads."""
    print(text, file=sys.stderr, flush=True)


def _up(options: argparse.Namespace) -> None:
    from runner.onebox.down import down
    from runner.onebox.up import up

    if options.fresh:
        down(say)
    up(kueue=not options.no_kueue, say=say)
    _env(options)


def _down(options: argparse.Namespace) -> None:
    from runner.onebox.down import down

    down(say)


def _env(options: argparse.Namespace) -> None:
    from runner.onebox.credentials import environment

    for name, value in environment().items():
        print(f"export {name}={shlex.quote(value)}")


def _status(options: argparse.Namespace) -> None:
    """Exit code 1 where there is no cluster that answers, for scripts."""
    from runner.onebox.processes import running
    from runner.onebox.status import status

    for line in status():
        print(line)
    if not running("kube-apiserver"):
        sys.exit(1)


def _build(options: argparse.Namespace) -> None:
    from runner.onebox import build, versions

    for part in versions.EVERYTHING:
        build.build(part, say)


def _kwok(options: argparse.Namespace) -> None:
    from runner.onebox.kwok import set_nodes

    set_nodes(options.nodes, say)


if __name__ == "__main__":
    sys.exit(main())
