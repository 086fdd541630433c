import io
import re

import pytest
import torch
from rich.console import Console
from standins import Count, DieAfter, Noisy, Pictures, Tiny, recipe

from tacit.core.errors import CheckpointError
from tacit.training.folder import new_folder
from tacit.training.hooks import Progress, ProgressHook, names_of
from tacit.training.loop import fit
from tacit.training.metrics import Metrics, read_metrics


def run(folder, *hooks, **fields):
    return fit(recipe(**fields), Tiny(), Pictures(), Noisy(), folder, hooks=hooks)


class Look:
    def __init__(self):
        self.seen = []

    def __call__(self, step, terms, context):
        assert (context.step, context.steps, context.folder.name) == (step, 7, "run")
        assert context.system.training and set(terms) == {"loss", "miss", "spread"}
        assert not any(t.requires_grad for t in terms.values())
        self.seen.append((step, context.logging, set(context.values), context.last, context.rate))

    def close(self, status):
        self.status = status


def test_a_hook_sees_every_step_and_the_values_on_logging_steps(tmp_path):
    look = Look()
    result = run(tmp_path / "run", look)
    assert [s[0] for s in look.seen] == [1, 2, 3, 4, 5, 6, 7] and look.status == "finished"
    assert [s[0] for s in look.seen if s[1]] == [1, 2, 4, 6, 7] == [s[0] for s in look.seen if s[2]]
    assert [s[0] for s in look.seen if s[3]] == [7]
    steps, rates = read_metrics(tmp_path / "run")["rate"]
    assert dict(zip(steps.tolist(), rates.tolist(), strict=True)) == {s[0]: s[4] for s in look.seen if s[1]}
    steps, losses = read_metrics(tmp_path / "run")["loss"]
    assert result.values["loss"] == losses[-1] and steps.tolist() == [1, 2, 4, 6, 7]


def test_two_hooks_of_a_kind_keep_their_states_apart():
    a, b, c = Count(), Count(), DieAfter(1)
    assert names_of((a, b, c)) == {"Count": a, "Count-2": b, "DieAfter": c}


def test_progress_is_measured_between_logging_steps():
    times = iter([10.0, 12.0, 16.0])
    progress = Progress(steps=100, batch=32, clock=lambda: next(times))
    progress.read(1)
    assert progress.line({"loss": 0.5}) == "step 1/100  loss 0.5"
    progress.read(11)
    progress.read(31)
    assert (progress.rate, progress.images, progress.left) == (5.0, 160.0, pytest.approx(69 / 5))
    assert progress.line({"loss": 0.5}) == "step 31/100  loss 0.5  5 steps/s  160 images/s  14s left"


def test_the_progress_hook_writes_lines_or_keeps_a_live_line(tmp_path):
    lines: list[str] = []
    run(tmp_path / "run", ProgressHook(write=lines.append))
    assert [line.split("  ")[0] for line in lines] == [f"step {k}/7" for k in (1, 2, 4, 6, 7)]
    assert all(re.search(r"loss 0\.\d+", line) for line in lines)
    out = io.StringIO()
    run(tmp_path / "live", ProgressHook(console=Console(file=out, force_terminal=True, width=120)))
    assert "step 7/7" in out.getvalue()


def test_rows_survive_and_those_beyond_the_step_are_cut(tmp_path):
    rows = Metrics(tmp_path)
    for step in range(1, 5):
        rows.add(step, "loss", step / 3)
        rows.add(step, "rate", 0.1)
    rows.write()
    again = Metrics(tmp_path, step=3)
    assert len(again) == 6
    again.add(4, "loss", 9.0)
    again.write(now=False)  # not yet: the last writing is fresh
    assert read_metrics(tmp_path)["loss"][1].tolist() == [1 / 3, 2 / 3, 1.0, 4 / 3]
    again.write()
    steps, values = read_metrics(tmp_path)["loss"]
    assert steps.tolist() == [1, 2, 3, 4] and values.tolist() == [1 / 3, 2 / 3, 1.0, 9.0]


def test_a_folder_without_metrics_and_damaged_ones_are_named(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"holds no metrics.parquet: is it a run folder that has logged anything\?$"
    ):
        read_metrics(tmp_path)
    (tmp_path / "metrics.parquet").write_bytes(b"PAR1")
    with pytest.raises(CheckpointError, match=r"metrics.parquet cannot be read .* delete it to go on without"):
        read_metrics(tmp_path)


def test_run_folders_have_names_of_their_own_and_hold_the_recipe(tmp_path):
    a, b = new_folder(tmp_path, "digits"), new_folder(tmp_path, "digits")
    assert a != b and a.parent == tmp_path / "digits" and not a.exists()
    run(a)
    assert "steps: 7" in (a / "recipe.yaml").read_text()


def test_terms_in_the_metrics_are_those_of_the_micro_batches_mean(tmp_path):
    """With per-sample terms and no BatchNorm, accumulating changes nothing but rounding."""

    class Plain(Tiny):
        def __init__(self):
            super().__init__(dropout=0.0)
            for part in (self.student, self.teacher):
                part.blocks[0][1] = torch.nn.Identity()

        def loss(self, batch, progress, ranks):
            terms = super().loss(batch, progress, ranks)
            return {"loss": terms["miss"]}

    for k in (1, 4):
        fit(recipe(accumulate=k), Plain(), Pictures(), Noisy(), tmp_path / str(k))
    one, four = (read_metrics(tmp_path / str(k))["loss"][1] for k in (1, 4))
    assert one == pytest.approx(four, rel=1e-4)
