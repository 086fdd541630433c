import json
import os
import signal
import sys
import threading
import time

import pytest
import torch
from standins import Count, DieAfter, Noisy, Pictures, Tiny, recipe

from tacit.core.errors import RunError
from tacit.core.random import order
from tacit.training import checkpoint
from tacit.training.feed import Plan
from tacit.training.interrupts import interrupts_repeated
from tacit.training.loop import fit


class Send:
    """A hook that sends this process signals after a step."""

    def __init__(self, step, *numbers):
        self.step, self.numbers = step, numbers

    def __call__(self, step, terms, context):
        if step == self.step:
            for number in self.numbers:
                os.kill(os.getpid(), number)

    def close(self, status):
        self.status = status


def run(folder, *hooks, **fields):
    return fit(recipe(save_every=0, **fields), Tiny(), Pictures(), Noisy(), folder, hooks=hooks)


def state(folder):
    return json.loads((folder / "state.json").read_text())


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_a_signal_finishes_the_step_saves_and_the_next_start_goes_on(tmp_path, number, name):
    before = signal.getsignal(number)
    hook = Send(3, number)
    result = run(tmp_path / "cut", hook)
    assert (result.status, result.step, result.reason, hook.status) == ("stopped", 3, name, "stopped")
    assert state(tmp_path / "cut") == {"status": "stopped", "step": 3, "steps": 7, "reason": name}
    assert checkpoint.saved_steps(tmp_path / "cut") == [3]
    assert signal.getsignal(number) is before

    assert run(tmp_path / "cut").status == "finished"
    run(tmp_path / "whole")
    last = "steps/00000007/system.safetensors"
    assert (tmp_path / "cut" / last).read_bytes() == (tmp_path / "whole" / last).read_bytes()
    assert state(tmp_path / "cut") == {"status": "finished", "step": 7, "steps": 7, "reason": ""}


def test_a_signal_after_the_last_step_finishes(tmp_path):
    assert run(tmp_path / "run", Send(7, signal.SIGTERM)).status == "finished"


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_further_ctrl_c_aborts_at_once(tmp_path, first):
    before, hook = signal.getsignal(signal.SIGINT), Send(3, first, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", hook)
    assert signal.getsignal(signal.SIGINT) is before and hook.status == "stopped"
    assert state(tmp_path / "run") == {
        "status": "stopped",
        "step": 0,
        "steps": 7,
        "reason": "aborted by a further Ctrl-C",
    }
    assert checkpoint.saved_steps(tmp_path / "run") == []
    assert run(tmp_path / "run").status == "finished"


def test_outside_the_main_thread_signals_are_left_alone(tmp_path):
    before, seen = signal.getsignal(signal.SIGTERM), []

    class Look(DieAfter):
        def __call__(self, step, terms, context):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run, args=(tmp_path / "run", Look(0)))
    thread.start()
    thread.join()
    assert set(seen) == {before} and state(tmp_path / "run")["status"] == "finished"


def test_a_loss_that_is_not_finite_stops_the_run_with_terms_samples_and_the_last_good_checkpoint(tmp_path):
    folder = tmp_path / "run"
    plan = Plan(20, seed=11, batch=8)
    bad = int(order(11, 1, 20)[9])  # read in the second step of the second epoch, that is step 4, unless it came before
    first = next(step for step in range(7) if bad in plan.indices(step))
    ids = (plan.indices(first) + 100).tolist()
    count = Count()
    with pytest.raises(RunError) as caught:
        fit(recipe(), Tiny(), Pictures(), Noisy(poison=bad + 100), folder, hooks=[count])
    left = f"The last good checkpoint is {folder}/steps/{first:08d}." if first else "No checkpoint had been written."
    sentence = (
        f"step {first + 1}: not finite: loss = nan, miss = nan, spread = nan. The batch held 8 samples with the ids "
        f"{', '.join(map(str, ids))}. {left} Lower optim.lr, bound the gradient with clip=1.0, or look at these samples"
    )
    assert str(caught.value) == sentence
    assert state(folder) == {"status": "failed", "step": first, "steps": 7, "reason": sentence}
    assert count.calls == first and count.closed == ["failed"]
    assert checkpoint.saved_steps(folder)[:1] == ([first] if first else [])


def test_a_broken_gradient_of_a_finite_loss_is_never_saved(tmp_path):
    class Root(Tiny):
        def loss(self, batch, progress, ranks):
            terms = super().loss(batch, progress, ranks)
            zero = (self.student.head.weight * 0).sum()
            return {**terms, "loss": terms["loss"] + torch.sqrt(zero)}  # value 0, gradient 0 / 0

    with pytest.raises(
        RunError, match=r"^step 1: weights are not finite though the loss was: student.head.weight. No check"
    ):
        fit(recipe(), Root(), Pictures(), Noisy(), tmp_path / "run")
    assert checkpoint.saved_steps(tmp_path / "run") == []
    with pytest.raises(RunError, match=r"^step 1: not finite: gradient_norm = nan. The batch held 8 samples"):
        fit(recipe(clip=1.0), Root(), Pictures(), Noisy(), tmp_path / "clipped")


def test_a_system_without_a_loss_is_told_so(tmp_path):
    class Nameless(Tiny):
        def loss(self, batch, progress, ranks):
            return {"miss": super().loss(batch, progress, ranks)["miss"]}

    with pytest.raises(RunError, match=r"^the system's loss returned the terms miss: 'loss' must be among them$"):
        fit(recipe(), Nameless(), Pictures(), Noisy(), tmp_path / "run")


def test_an_interrupt_that_python_drops_is_raised_again(monkeypatch):
    dropped = []
    monkeypatch.setattr(sys, "unraisablehook", lambda info: dropped.append(info.exc_type))

    class Finalised:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def wait():
        with interrupts_repeated(after=0.1):
            Finalised()  # dies at once
            assert dropped == [KeyboardInterrupt]
            time.sleep(20)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        wait()
    assert signal.getsignal(signal.SIGINT) is before and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
