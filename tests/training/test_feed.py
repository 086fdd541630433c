import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from standins import Noisy, Pictures

from tacit.core.errors import DataError, RunError
from tacit.core.protocols import Makes
from tacit.core.random import order
from tacit.core.values import View
from tacit.training import feed
from tacit.training.feed import Feed, Plan


def taken(plan, steps, **how):
    made = Feed(Pictures(), Noisy(), plan, **how)
    with made.steps(*steps) as batches:
        return list(batches)


def test_an_epoch_visits_whole_batches_of_its_permutation_and_no_sample_twice():
    plan = Plan(20, seed=4, batch=6)
    for epoch in range(2):
        seen = np.concatenate([plan.indices(3 * epoch + k) for k in range(3)])
        np.testing.assert_array_equal(seen, order(4, epoch, 20)[:18])
    assert [plan.at(step)[0] for step in (0, 2, 3)] == [0, 0, 1]


@pytest.mark.parametrize(("accumulate", "size"), [(1, 2), (3, 1), (2, 3)])
def test_any_split_over_processes_and_micro_batches_makes_the_same_step(accumulate, size):
    whole = Plan(30, seed=4, batch=12)
    for step in (0, 5):
        shares = [
            Plan(30, seed=4, batch=12, accumulate=accumulate, rank=rank, size=size).indices(step, micro)
            for micro in range(accumulate)
            for rank in range(size)
        ]
        np.testing.assert_array_equal(np.concatenate(shares), whole.indices(step))


def test_a_batch_depends_on_its_step_alone_not_on_where_reading_began():
    plan = Plan(20, seed=4, batch=6)
    late = dict(taken(plan, (4, 6)))
    for step, (batch,) in taken(plan, (0, 6))[4:]:
        assert torch.equal(batch.ids, late[step][0].ids)
        assert torch.equal(batch.views["b"].data, late[step][0].views["b"].data)


def same(a, b):
    return all(
        torch.equal(x.ids, y.ids)
        and torch.equal(x.facts["label"], y.facts["label"])
        and all(torch.equal(x.views[v].data, y.views[v].data) for v in ("a", "b"))
        and torch.equal(x.views["a"].how["noise"], y.views["a"].how["noise"])
        for (s, xs), (t, ys) in zip(a, b, strict=True)
        for x, y in zip(xs, ys, strict=True)
        if s == t
    )


def test_workers_and_resident_data_give_the_same_bits_as_the_thread():
    plan = Plan(20, seed=4, batch=6, accumulate=2)
    thread = taken(plan, (1, 5))
    assert [step for step, _ in thread] == [1, 2, 3, 4] and len(thread[0][1]) == 2
    assert same(thread, taken(plan, (1, 5), workers=2))
    assert same(thread, taken(plan, (1, 5), resident=True))


def test_computed_samples_are_made_on_the_device_from_their_ids_alone():
    """As `read` gives them, views included; a source that only reads is not asked."""
    plan, source = Plan(20, seed=4, batch=6), Pictures()

    class Computed:
        def make(self, ids):
            assert ids.dtype == torch.int64
            return source.read(ids.numpy())

    there = feed._There(Computed(), Noisy(), plan, torch.device("cpu"))
    assert same([(0, [there[3]])], taken(plan, (3, 4)))
    assert isinstance(Computed(), Makes) and not isinstance(source, Makes)

    class Drawn(Computed):
        def __init__(self, epoch=-1):
            self.epoch = epoch

        def at(self, seed, epoch):
            return Drawn(epoch)

        def make(self, ids):
            assert self.epoch == plan.at(3)[0]
            return super().make(ids)

    there = feed._There(Drawn(), Noisy(), plan, torch.device("cpu"))
    assert same([(0, [there[3]])], taken(plan, (3, 4)))


def test_tensors_are_aligned_so_that_arithmetic_repeats():
    class Crooked(Noisy):
        def __call__(self, batch, seed, epoch):
            batch = super().__call__(batch, seed, epoch)
            view = batch.views["a"]
            shifted = torch.empty(view.data.numel() + 1)[1:].view_as(view.data).copy_(view.data)
            return type(batch)({**batch.views, "a": type(view)(shifted)}, batch.ids)

    with Feed(Pictures(), Crooked(), Plan(20, seed=4, batch=6)).steps(0, 2) as batches:
        assert all(batch.views["a"].data.data_ptr() % 64 == 0 for _, (batch,) in batches)


@pytest.mark.parametrize("at", range(6))
def test_every_real_tensor_of_a_batch_is_laid_at_a_round_address_wherever_it_lies(at):
    good, bad = torch.zeros(16), torch.ones(17)[1:]
    assert good.data_ptr() % 64 == 0 and bad.data_ptr() % 64 != 0

    class Views(Noisy):
        def __call__(self, batch, seed, epoch):
            x = [bad if i == at else good for i in range(6)]
            one, other = View([x[0], x[1]], {"noise": x[2]}), View(x[3])
            return type(batch)({"a": one, "b": other}, batch.ids, action=x[4], facts={"label": x[5]})

    with Feed(Pictures(), Views(), Plan(20, seed=4, batch=6)).steps(0, 1) as batches:
        _, (batch,) = next(batches)
    one, other = batch.views["a"], batch.views["b"]
    found = [*one.data, one.how["noise"], other.data, batch.action, batch.facts["label"]]
    assert all(x.data_ptr() % 64 == 0 for x in found)
    assert [bool(x.all()) for x in found] == [i == at for i in range(6)]


@pytest.mark.parametrize("workers", [0, 1])
def test_data_that_vanish_are_named_with_the_step(workers):
    plan = Plan(20, seed=4, batch=6)
    lost = int(plan.indices(2)[0])
    feed = Feed(Pictures(fail_at=lost), Noisy(), plan, workers=workers)
    sentence = rf"^the data of step 3 could not be read: sample {lost}: the folder has gone$"
    with feed.steps(0, 5) as batches:
        assert [next(batches)[0], next(batches)[0]] == [0, 1]
        with pytest.raises(RunError, match=sentence):
            next(batches)


def test_a_fault_of_the_views_surfaces_as_it_is_with_the_step():
    class Broken(Noisy):
        def __call__(self, batch, seed, epoch):
            raise ZeroDivisionError("here")

    feed = Feed(Pictures(), Broken(), Plan(20, seed=4, batch=6))
    with pytest.raises(ZeroDivisionError) as caught, feed.steps(0, 2) as batches:
        next(batches)
    assert caught.value.__notes__ == ["raised while the batch of step 1 was made"]


class Costly(Noisy):
    """The same views, made so slowly that a thread pays; says who made each batch."""

    def __init__(self):
        super().__init__()
        self.makers = []

    def __call__(self, batch, seed, epoch):
        self.makers.append(threading.current_thread().name)
        time.sleep(0.003)
        return super().__call__(batch, seed, epoch)


class Cheap(Costly):
    def __call__(self, batch, seed, epoch):
        self.makers.append(threading.current_thread().name)
        return self.plain(batch)


def test_a_thread_makes_what_is_costly_and_the_caller_what_is_cheap():
    plan, made = Plan(20, seed=4, batch=6), {}
    for views in (Cheap(), Costly()):
        with Feed(Pictures(), views, plan).steps(0, 12) as batches:
            made[type(views)] = list(batches)
        caller = [name == threading.current_thread().name for name in views.makers]
        # the caller gives up after four costly ones in a row; a busy machine may make a cheap one look costly, not four
        assert caller == ([True] * 4 + [False] * 8 if type(views) is Costly else [True] * 12)
    plain = [step for step, _ in made[Cheap]]
    assert plain == list(range(12)) == [step for step, _ in made[Costly]]
    assert same(made[Costly], taken(plan, (0, 12)))


def test_leaving_early_ends_the_thread():
    with Feed(Pictures(), Costly(), Plan(20, seed=4, batch=6)).steps(0, 1000) as batches:
        for _ in range(6):
            next(batches)
        assert [t for t in threading.enumerate() if t.name.startswith("tacit-feed")]
    end = time.monotonic() + 10
    while [t for t in threading.enumerate() if t.name.startswith("tacit-feed")] and time.monotonic() < end:
        time.sleep(0.01)
    assert not [t for t in threading.enumerate() if t.name.startswith("tacit-feed")]


def test_a_batch_larger_than_the_data_is_refused_with_a_remedy():
    with pytest.raises(
        DataError, match="a batch of 64 needs at least 64 samples, and the data have 20: choose batch=20 or"
    ):
        Plan(20, seed=0, batch=64)


def test_a_batch_that_does_not_split_is_refused_with_a_remedy():
    with pytest.raises(
        RunError, match=r"batch: 10 does not split into accumulate=2 micro-batches over 3 processes: choose a"
    ):
        Plan(20, seed=0, batch=10, accumulate=2, size=3)


CHILD = """
import sys, time
sys.path.insert(0, {here!r})
from standins import Noisy, Pictures
from tacit.training import feed
from tacit.training.feed import Feed, Plan
import multiprocessing
if __name__ == "__main__":
    with Feed(Pictures(), Noisy(), Plan(20, seed=4, batch=6), workers=2).steps(0, 10**6) as batches:
        next(batches)
        print(*[child.pid for child in multiprocessing.active_children()], flush=True)
        time.sleep(600)
"""


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]


@pytest.mark.slow
def test_killing_the_run_leaves_no_worker_behind(tmp_path):
    script = tmp_path / "child.py"
    script.write_text(CHILD.format(here=str(Path(__file__).parent)))
    child = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    workers = [int(pid) for pid in child.stdout.readline().split()]
    assert len(workers) == 2 and all(map(alive, workers))
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    end = time.monotonic() + 30
    while any(map(alive, workers)) and time.monotonic() < end:
        time.sleep(0.2)
    assert not any(map(alive, workers))
