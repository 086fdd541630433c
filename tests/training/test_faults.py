import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from standins import DieAfter, Interrupt, Noisy, Pictures, Tiny, recipe

from tacit.core.errors import CheckpointError, RunError
from tacit.core.spec import Spec
from tacit.training import checkpoint, metrics
from tacit.training.feed import Plan
from tacit.training.folder import Folder
from tacit.training.loop import fit


def run(folder, *hooks, source=None, **fields):
    return fit(recipe(**fields), Tiny(), source or Pictures(), Noisy(), folder, hooks=hooks)


def full(*_, **__):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("module", [checkpoint, metrics])
def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path, monkeypatch, module):
    folder = tmp_path / "run"
    with pytest.raises(Interrupt):
        run(folder, DieAfter(4))
    before = {p: p.read_bytes() for p in (folder / "steps").rglob("*") if p.is_file()}
    monkeypatch.setattr(module, *(("save_file", full) if module is checkpoint else ("replace", full)))
    what = {
        checkpoint: f"the checkpoint of step 4 could not be written to {folder}/steps/00000004",
        metrics: f"step 4: {folder}/metrics.parquet could not be written",
    }[module]
    sentence = (
        f"{what}: No space left on device. The last good checkpoint is {folder}/steps/00000003. Make room and start the run "
        "again: it goes on from there"
    )
    with pytest.raises(RunError, match=f"^{re.escape(sentence)}$"):
        run(folder)
    assert {p: p.read_bytes() for p in (folder / "steps").rglob("*") if p.is_file()} == before
    assert json.loads((folder / "state.json").read_text()) == {
        "status": "failed", "step": 3, "steps": 7, "reason": sentence
    }  # fmt: skip
    monkeypatch.undo()
    assert run(folder).status == "finished"


LIMITED = """
import resource, signal, sys
sys.path.insert(0, {here!r})
from standins import Noisy, Pictures, Tiny, recipe
from tacit.core.errors import RunError
from tacit.training.loop import fit
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3500, 3500))  # enough for every file but the weights
try:
    fit(recipe(), Tiny(), Pictures(), Noisy(), {folder!r})
except RunError as error:
    print(error)
"""


@pytest.mark.slow
def test_the_sentence_is_the_same_when_the_system_itself_refuses_the_bytes(tmp_path):
    script = LIMITED.format(here=str(Path(__file__).parent), folder=str(tmp_path / "run"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"the checkpoint of step 1 could not be written to {tmp_path}/run/steps/00000001: ")
    assert "File too large" in done.stdout and "No checkpoint had been written." in done.stdout
    assert list((tmp_path / "run/steps").iterdir()) == []


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_data_that_vanish_stop_the_run_in_one_sentence(tmp_path, workers):
    lost = int(Plan(20, seed=11, batch=8).indices(1)[0])
    with pytest.raises(RunError, match=rf"^the data of step 2 could not be read: sample {lost}: the folder has gone$"):
        run(tmp_path / "run", source=Pictures(fail_at=lost), machine={"workers": workers})
    assert json.loads((tmp_path / "run/state.json").read_text())["status"] == "failed"
    assert checkpoint.saved_steps(tmp_path / "run") == [1]
    assert run(tmp_path / "run").status == "finished"  # the data are back


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "run"
    with pytest.raises(
        RunError, match=f"^the run folder {folder} cannot be written: Not a directory. Choose another folder"
    ):
        run(folder)


def test_the_folder_of_another_recipe_is_refused_with_what_differs(tmp_path):
    run(tmp_path / "run")
    other = {"steps": 9, "optim": Spec("optimizer", "adamw", lr=0.5)}
    sentence = (
        f"the run folder {tmp_path / 'run'} belongs to another recipe (optim.lr: there 0.01, now 0.5; steps: there 7, now 9): "
        "go on with its own recipe.yaml, or start in a new folder"
    )
    with pytest.raises(CheckpointError, match=f"^{re.escape(sentence)}$"):
        run(tmp_path / "run", **other)
    assert json.loads((tmp_path / "run/state.json").read_text())["status"] == "finished"  # it is not ours to change


def test_machine_and_checks_may_change_between_starts(tmp_path):
    with pytest.raises(Interrupt):
        run(tmp_path / "run", DieAfter(3))
    assert run(tmp_path / "run", keep=1, machine={"precision": "bf16"}).status == "finished"
    starts = json.loads((tmp_path / "run/machine.json").read_text())["starts"]
    assert len(starts) == 2 and {"host", "torch", "threads", "tacit", "git"} <= starts[0].keys()


def test_a_folder_in_use_is_refused_and_free_again_afterwards(tmp_path):
    import os
    import socket

    folder = tmp_path / "run"
    assert Folder(folder).free()  # there is none yet
    with Folder(folder).held(recipe()):
        assert not Folder(folder).free()
        sentence = (
            f"the run folder {folder} is in use by process {os.getpid()} on {socket.gethostname()}: wait for it, stop it, or "
            "give this run a folder of its own"
        )
        with pytest.raises(RunError, match=f"^{re.escape(sentence)}$"):
            run(folder)
        assert not Folder(folder).free()  # asking and being refused leave the lock with its holder
    assert Folder(folder).free()
    assert Folder(folder).free()  # asking does not hold it
    assert run(folder).status == "finished"


HOLDER = """
import sys
sys.path.insert(0, {here!r})
from standins import recipe
from tacit.training.folder import Folder
with Folder({folder!r}).held(recipe()):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_folder_held_by_another_process_is_free_when_that_is_killed(tmp_path):
    script = HOLDER.format(here=str(Path(__file__).parent), folder=str(tmp_path / "run"))
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        assert not Folder(tmp_path / "run").free()
        holder.kill()
        holder.wait()
        assert Folder(tmp_path / "run").free()


def test_a_recipe_file_that_is_no_yaml_is_named(tmp_path):
    run(tmp_path / "run")
    (tmp_path / "run/recipe.yaml").write_text("{")
    with pytest.raises(CheckpointError, match=r"recipe.yaml is not valid YAML: restore it, or start in a new folder$"):
        run(tmp_path / "run")


def test_an_unforeseen_error_is_written_down_and_goes_on_to_the_caller(tmp_path):
    with pytest.raises(Interrupt):
        run(tmp_path / "run", DieAfter(3))
    state = json.loads((tmp_path / "run/state.json").read_text())
    assert state == {"status": "failed", "step": 2, "steps": 7, "reason": "Interrupt"}
