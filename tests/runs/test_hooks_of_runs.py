"""The judge beside a run: it warns of a collapse once, with its likely cause, and survives a restart."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tacit import recipes
from tacit.core.recipe import Machine
from tacit.runs.build import build
from tacit.runs.hooks import JudgeHook
from tacit.training.runtime import Runtime


class Context(SimpleNamespace):
    """What the hook sees of a run of 100 steps."""

    def __init__(self, folder: Path) -> None:
        recipe = recipes.load("ssl.vicreg_digits", ["checks.judge_every=10"])
        super().__init__(
            recipe=recipe,
            folder=folder,
            runtime=Runtime(torch.device("cpu"), Machine()),
            steps=100,
            step=0,
            logging=True,
            values={},
            last=False,
            rows=[],
        )

    def log(self, name: str, value: float) -> None:
        self.rows.append((self.step, name, value))


@pytest.fixture
def built():
    return build(recipes.load("ssl.vicreg_digits", ["system.encoder.widths=[8]", "system.projector.widths=[16, 8]"]))


def judged(built, folder: Path, embeddings: dict) -> tuple[JudgeHook, Context, str]:
    """Call the hook at the given steps with `embeddings[step](n) -> [n d]`; returns what log.txt says."""
    hook, context = JudgeHook(built), Context(folder)
    for step, make in embeddings.items():
        context.step = step
        built.system.project = lambda x, make=make: make(len(x))
        hook(step, {}, context)
    log = folder / "log.txt"
    return hook, context, log.read_text() if log.exists() else ""


def spread(n: int) -> torch.Tensor:
    return torch.randn(n, 8, generator=torch.Generator().manual_seed(n))


def test_a_healthy_embedding_warns_of_nothing_and_is_shown(built, tmp_path):
    _, context, log = judged(built, tmp_path, {1: spread, 20: spread})
    assert log == ""
    names = (
        "rankme", "stable_rank", "nesum", "self_cluster", "uniformity", "lidar", "alignment", "embedding_std",
    )  # fmt: skip
    assert [(step, name) for step, name, _ in context.rows] == [(s, n) for s in (1, 20) for n in names]
    assert context.values["rankme"] == pytest.approx(8, rel=0.05)  # white noise uses every direction


@pytest.mark.parametrize(
    ("collapsed", "cause"),
    [
        (lambda n: torch.ones(n, 8), "all samples are drawn to one point|all samples have the same embedding"),
        (lambda n: spread(n)[:, :1] * torch.ones(8), "dimensional collapse, one direction holds nearly everything"),
        (
            lambda n: spread(n) * 1e-4,
            r"the embedding's standard deviation fell to 1\.\de-04, from 1\.\de\+00 before|fell to 9\.\de-05",
        ),
        (lambda n: spread(n) * 0.01 + 1, "nearly all embeddings point the same way|standard deviation fell"),
    ],
)
def test_each_kind_of_collapse_is_named_once(built, tmp_path, collapsed, cause):
    _, _, log = judged(built, tmp_path, {1: spread, 20: collapsed, 30: collapsed})
    assert log.count("warning: step 20: ") == 1
    assert log.count("warning") == 1

    assert re.search(cause, log)


def test_an_untrained_network_is_not_called_collapsed(built, tmp_path):
    _, _, log = judged(built, tmp_path, {1: lambda n: torch.ones(n, 8), 20: spread})
    assert log == ""


def test_its_state_goes_on_after_a_restart(built, tmp_path):
    hook, _, _ = judged(built, tmp_path, {1: spread, 20: lambda n: torch.ones(n, 8)})
    again = JudgeHook(built)
    again.load_state_dict(hook.state_dict())
    assert again.state_dict() == hook.state_dict()
