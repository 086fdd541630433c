"""Laws of trackers: what was logged is found again, a resume goes on in the same run, nothing asks or needs a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types

import pytest

from tacit.core.errors import MissingExtraError, RunError, UnknownNameError
from tacit.training.trackers import open_trackers

RECIPE = {"seed": 3, "system": {"kind": "joint-embedding", "objective": {"kind": "vicreg", "variance": 25.0}}}


def scalars(folder, name):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)], events


def test_tensorboard_holds_what_was_logged(tmp_path):
    (tracker,) = open_trackers(["tensorboard"], tmp_path, RECIPE)
    for step in range(3):
        tracker.log(step, {"loss": 2.0**-step, "rank/me": step})
    tracker.close("done")
    found, events = scalars(tmp_path, "loss")
    assert found == [(0, 1.0), (1, 0.5), (2, 0.25)]
    assert scalars(tmp_path, "rank/me")[0] == [(0, 0.0), (1, 1.0), (2, 2.0)]
    texts = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]}
    assert texts["status/text_summary"] == "done"
    (recipe,) = (text for tag, text in texts.items() if tag.startswith("recipe of"))
    assert json.loads(recipe) == RECIPE


@pytest.mark.parametrize("checkpoint", [0, 3])
def test_a_resumed_run_replaces_the_steps_after_its_checkpoint(checkpoint, tmp_path):
    (killed,) = open_trackers(["tensorboard"], tmp_path, RECIPE)
    for step in range(5):
        killed.log(step, {"loss": -1.0 if step >= checkpoint else float(step)})
    killed._writer.flush()  # the run dies here; after its last checkpoint
    (resumed,) = open_trackers(["tensorboard"], tmp_path, RECIPE, step=checkpoint)
    for step in range(checkpoint, 6):
        resumed.log(step, {"loss": float(step)})
    resumed.close("done")
    killed._writer.close()
    assert scalars(tmp_path, "loss")[0] == [(step, float(step)) for step in range(6)]


@pytest.fixture
def offline(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("WANDB_", "TRACKIO_"))]:
        monkeypatch.delenv(name)
    for name in ("HOME", "TRACKIO_DIR", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


LOG = """
import json, sys
from tacit.training.trackers import open_trackers
name, folder, start, stop = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
(tracker,) = open_trackers([name], folder, {"seed": 3}, step=start)
for step in range(start, stop):
    tracker.log(step, {"loss": step / 8})
tracker.close("done")
"""


def log(name, folder, start, stop):
    """In a process of its own: these services keep threads and state for the life of a process."""
    command = [sys.executable, "-c", LOG, name, str(folder), str(start), str(stop)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""  # standard output belongs to the caller


@pytest.mark.usefixtures("offline")
def test_wandb_stays_offline_and_goes_on_under_the_same_id(tmp_path):
    pytest.importorskip("wandb")
    log("wandb", tmp_path / "run", 0, 3)
    log("wandb", tmp_path / "run", 3, 5)
    number = json.loads((tmp_path / "run" / "trackers.json").read_text())["wandb"]
    files = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert [file.name for file in files] == [f"run-{number}.wandb"] * 2
    assert [b"loss" in file.read_bytes() for file in files] == [True, True]
    log("wandb", tmp_path / "run", 0, 1)  # starting over is another run
    assert json.loads((tmp_path / "run" / "trackers.json").read_text())["wandb"] != number


@pytest.mark.usefixtures("offline")
def test_trackio_keeps_one_run_in_the_local_store(tmp_path):
    pytest.importorskip("trackio")
    log("trackio", tmp_path / "run", 0, 3)
    log("trackio", tmp_path / "run", 3, 5)
    name = json.loads((tmp_path / "run" / "trackers.json").read_text())["trackio"]
    read = (
        "import json, sys\nfrom trackio.sqlite_storage import SQLiteStorage as store\n"
        "print(json.dumps([store.get_runs('tacit'), store.get_logs('tacit', sys.argv[1])]))"
    )
    answer = subprocess.run([sys.executable, "-c", read, name], capture_output=True, text=True, timeout=60, check=True)
    runs, logs = json.loads(answer.stdout)
    assert runs == [name]
    assert [(row["step"], row["loss"]) for row in logs if "loss" in row] == [(s, s / 8) for s in range(5)]


@pytest.mark.usefixtures("offline")
def test_wandb_online_without_a_key_is_refused_not_asked(tmp_path, monkeypatch):
    wandb = types.SimpleNamespace(login=lambda prompt, verify: prompt)  # no key: False, and the prompt is switched off
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(RunError) as caught:
        open_trackers(["wandb"], tmp_path, RECIPE)
    assert str(caught.value) == (
        "WANDB_MODE is 'online' but no wandb key is set: run 'wandb login', set WANDB_API_KEY, or WANDB_MODE=offline"
    )


def test_unknown_and_missing_trackers_are_refused_before_any_is_opened(tmp_path, monkeypatch):
    with pytest.raises(UnknownNameError) as caught:
        open_trackers(["tensorboard", "wandbb"], tmp_path, RECIPE)
    assert str(caught.value) == ("no tracker named 'wandbb'. Did you mean 'wandb'? Known: tensorboard, trackio, wandb.")
    for name in ("wandb", "trackio"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingExtraError) as missing:
            open_trackers(["tensorboard", name], tmp_path, RECIPE)
        assert str(missing.value) == (
            f"the tracker {name!r} needs the package {name!r}, which is not installed: pip install 'tacit[trackers]'"
        )
    assert not list(tmp_path.iterdir())
