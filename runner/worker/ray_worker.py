"""How a worker process of Ray begins: with the packages that the job brings, and with the user's code on its path."""

from __future__ import annotations

import os

from runner.code import packages
from runner.process.code_root import code_folder, code_root, set_code_root
from runner.untrusted import switches


def begin() -> None:
    """Ray calls this first; what Ray Data runs there imports modules of the user's by their own names."""
    switches.check(os.environ, "the environment of a worker of Ray")
    packages.provide_on_node()
    unpacked = code_folder()
    root = unpacked / "project" if unpacked is not None else code_root()
    if root is not None and root.is_dir():
        set_code_root(root)
        if unpacked is not None:
            os.chdir(root)  # Ray starts it in the folder above, where a path of the project's means nothing
