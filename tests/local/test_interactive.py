"""Scripts and interactive sessions submit as files do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SESSION = """
from dataclasses import dataclass
import pyarrow as pa
import runner

@dataclass(frozen=True)
class Config:
    lr: float = 0.1

factor = 3

def numbers():
    yield pa.table({"x": list(range(100))})

def times(batch, config):
    import pyarrow.compute as pc
    return pa.table({"x": pc.multiply(batch.column(0), factor)})

def train(ctx, config):
    import torch
    model = ctx.prepare(torch.nn.Linear(1, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr * 1e-5)
    ctx.track(model=model, optimizer=optimizer)
    for batch in ctx.batches("train", batch_size=10):
        loss = model(batch["x"].float()[:, None]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ctx.step(loss=loss)

stages = [
    runner.Prep("times", fn=times, source=runner.Dataset(make=numbers), sink="tripled"),
    runner.Train("train", fn=train, data={"train": "tripled"}, workers=2),
]
job = runner.Job("session", config=Config(), stages=stages)
"""


def test_functions_of_an_interactive_session_travel_by_value(tmp_path: Path) -> None:
    """What was typed into a session, with the variables it uses and its config class, runs in the workers."""
    code = SESSION + "run = runner.submit(job, lr=0.2)\nrun.wait()\nprint(run.results()['train']['steps'])\n"
    done = subprocess.run([sys.executable, "-"], input=code, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "5\n", done.stderr
    again = SESSION + "run = runner.submit(job, lr=0.3)\nrun.wait()\nprint(run.view().stages['times'].state)\n"
    done = subprocess.run([sys.executable, "-"], input=again, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", "lr is used by all preps that name no fields"


def test_a_script_submits_its_own_functions(tmp_path: Path) -> None:
    """A guarded script is imported by the workers under another name; a second run finds the prepared data."""
    script = tmp_path / "script.py"
    body = SESSION.replace('sink="tripled"', 'sink="tripled", uses=()')
    script.write_text(
        body + "\nif __name__ == '__main__':\n    run = runner.submit(job)\n    run.wait()\n"
        "    print(run.view().stages['times'].state, run.results()['train']['steps'])\n"
    )
    for expected in ("done 5\n", "skipped 5\n"):
        done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.stdout == expected, done.stderr
