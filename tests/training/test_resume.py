import json
import shutil

import pytest
import torch
from standins import Count, DieAfter, Interrupt, Noisy, Pictures, Tiny, recipe

from tacit.core.errors import CheckpointError
from tacit.core.spec import Spec
from tacit.training import checkpoint
from tacit.training.loop import fit
from tacit.training.metrics import read_metrics

SGD = Spec("optimizer", "sgd", lr=0.05)
LARS = Spec("optimizer", "lars", lr=0.5, eta=0.1)
SETTINGS = {
    "adamw": {},
    "sgd, clipped": {"optim": SGD, "clip": 0.05},
    "lars, accumulated": {"optim": LARS, "accumulate": 2},
    "fp16 with its scaler": {"machine": {"precision": "fp16"}},
    "bf16": {"machine": {"precision": "bf16"}},
}


def run(folder, settings, *hooks):
    return fit(recipe(**settings), Tiny(), Pictures(), Noisy(), folder, hooks=(Count(), *hooks))


def outcome(folder):
    """Everything a run leaves: every tensor, every scalar, every row."""
    steps = checkpoint.saved_steps(folder)
    rows = {name: (s.tolist(), v.tolist()) for name, (s, v) in read_metrics(folder).items()}
    files = {p.name: p.read_bytes() for p in checkpoint.place(folder, steps[0]).iterdir()}
    return steps, rows, files


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_cut_at_any_step_ends_as_the_uninterrupted_one(tmp_path, name):
    settings = SETTINGS[name]
    assert run(tmp_path / "whole", settings).status == "finished"
    wanted = outcome(tmp_path / "whole")
    assert wanted[0] == [7, 6] and wanted[1]["calls"] == ([3, 6], [3.0, 6.0])
    for step in range(1, 8):
        folder = tmp_path / str(step)
        with pytest.raises(Interrupt):
            run(folder, settings, DieAfter(step))
        assert checkpoint.saved_steps(folder)[:1] == ([step - 1] if step > 1 else [])
        run(folder, settings)
        assert outcome(folder) == wanted


def test_it_goes_on_from_an_older_checkpoint_and_forgets_the_rows_beyond_it(tmp_path):
    settings = {"save_every": 3, "log_every": 1}
    run(tmp_path / "whole", settings)
    with pytest.raises(Interrupt):
        run(tmp_path / "cut", settings, DieAfter(5))
    again = DieAfter(99)
    run(tmp_path / "cut", settings, again)
    assert again.calls == [4, 5, 6, 7]
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


@pytest.mark.slow
def test_with_workers_it_resumes_to_the_bits_of_the_thread(tmp_path):
    run(tmp_path / "whole", {})
    with pytest.raises(Interrupt):
        run(tmp_path / "cut", {"machine": {"workers": 2}}, DieAfter(4))
    run(tmp_path / "cut", {"machine": {"workers": 2}})
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


def test_the_same_recipe_twice_gives_the_same_run_and_another_seed_another(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(hash(name) % 1000)  # the state of the process must not matter
        run(tmp_path / name, {"seed": seed})
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b") != outcome(tmp_path / "c")


def test_the_generators_of_the_process_are_as_they_were(tmp_path):
    torch.manual_seed(4)
    before = torch.get_rng_state()
    system = Tiny()
    torch.set_rng_state(before)
    fit(recipe(), system, Pictures(), Noisy(), tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_finished_run_started_again_stays_as_it_is(tmp_path):
    run(tmp_path / "run", {})
    before, again = outcome(tmp_path / "run"), DieAfter(99)
    result = run(tmp_path / "run", {}, again)
    assert (result.status, result.step, again.calls) == ("finished", 7, [])
    assert outcome(tmp_path / "run") == before


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path, caplog):
    run(tmp_path / "whole", {})
    with pytest.raises(Interrupt):
        run(tmp_path / "cut", {}, DieAfter(5))
    file = tmp_path / "cut/steps/00000004/system.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    run(tmp_path / "cut", {})
    (warning,) = [r.message for r in caplog.records if r.levelname == "WARNING"]
    size = file.with_name("x").parent.with_name("00000004.damaged").joinpath(file.name).stat().st_size
    assert warning == (
        f"{file} is damaged: it has {size} bytes of {size + 1}. It is now 00000004.damaged; going on from step 3"
    )
    assert warning in (tmp_path / "cut/log.txt").read_text()
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


def test_without_any_readable_checkpoint_it_refuses_rather_than_starts_anew(tmp_path):
    with pytest.raises(Interrupt):
        run(tmp_path / "cut", {}, DieAfter(5))
    for step in (3, 4):
        (tmp_path / f"cut/steps/0000000{step}/state.json").write_text("{}")
    with pytest.raises(
        CheckpointError, match=r"^no checkpoint of .*cut can be read: .*00000004 is damaged: .*Restore one, or"
    ):
        run(tmp_path / "cut", {})
    assert checkpoint.saved_steps(tmp_path / "cut") == [4, 3]
    assert json.loads((tmp_path / "cut/state.json").read_text())["status"] == "failed"


def test_a_checkpoint_of_another_system_is_refused(tmp_path):
    run(tmp_path / "one", {})
    with pytest.raises(
        CheckpointError, match=r"00000007 does not fit the system: .*blocks.1.0.bias \(not in the checkpoint\)"
    ):
        fit(recipe(), Tiny(blocks=2), Pictures(), Noisy(), tmp_path / "one")


def test_lost_metrics_do_not_stop_a_run(tmp_path):
    with pytest.raises(Interrupt):
        run(tmp_path / "cut", {}, DieAfter(5))
    (tmp_path / "cut/metrics.parquet").unlink()
    run(tmp_path / "cut", {})
    assert read_metrics(tmp_path / "cut")["loss"][0].tolist() == [6, 7]


def test_a_copied_folder_goes_on_like_the_original(tmp_path):
    with pytest.raises(Interrupt):
        run(tmp_path / "a", {}, DieAfter(4))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    run(tmp_path / "a", {})
    run(tmp_path / "b", {})
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")
