"""The compiled sampler is `core.random` bit for bit, and its parameters follow the laws of the published recipes."""

from __future__ import annotations

import math
import multiprocessing
import sys

import numpy as np
import pytest

from tacit.core import random
from tacit.ops.compiled import fast_jit, jit
from tacit.ops.spread import spread
from tacit.views import draws

SIMCLR = draws.Ranges(
    area=(0.08, 1.0),
    aspect=(3 / 4, 4 / 3),
    flip=0.5,
    jitter=0.8,
    factors=((0.2, 1.8), (0.2, 1.8), (0.2, 1.8), (-0.2, 0.2)),
    grey=0.2,
    blur=0.5,
    sigma=(0.1, 2.0),
    solarise=0.2,
    angle=15.0,
    noise=0.1,
)


def drawn(n=4000, side=32, ranges=SIMCLR, ids=None, **where):
    ids = np.arange(n) if ids is None else ids
    asked = {"seed": 3, "epoch": 5, "index": 1, **where}
    return draws.draw(ids, np.full((len(ids), 2), side), ranges, **asked)


def by_hand(seed, epoch, ident, index, height, width, r):
    """The parameters of one sample from `core.random` in plain Python."""
    state = random.key(seed, "view", epoch, ident, index)

    def between(number, low, high):
        return low + (high - low) * random.uniform(state, number)

    box = None
    for attempt in range(draws.TRIES):
        target = height * width * between(4 * attempt, *r.area)
        aspect = math.exp(between(4 * attempt + 1, math.log(r.aspect[0]), math.log(r.aspect[1])))
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(random.uniform(state, 4 * attempt + 2) * (height - h + 1))
            left = int(random.uniform(state, 4 * attempt + 3) * (width - w + 1))
            box = [top, left, h, w]
            break
    order = [0, 1, 2, 3]
    for k in (3, 2, 1):
        other = int(random.uniform(state, draws.SHUFFLE + k - 1) * (k + 1))
        order[k], order[other] = order[other], order[k]
    jitters = random.uniform(state, draws.JITTER) < r.jitter
    factors = [between(draws.FACTORS + k, *r.factors[k]) for k in range(4)] if jitters else [1, 1, 1, 0]
    return {
        "box": box,
        "flip": random.uniform(state, draws.FLIP) < r.flip,
        "angle": np.float32(between(draws.ANGLE, -r.angle, r.angle)),
        "order": order,
        "jitter": np.array(factors, np.float32),
        "grey": random.uniform(state, draws.GREY) < r.grey,
        "sigma": np.float32(between(draws.SIGMA, *r.sigma) if random.uniform(state, draws.BLUR) < r.blur else 0),
        "solarise": random.uniform(state, draws.SOLARISE) < r.solarise,
        "noise": np.float32(r.noise),
    }


@pytest.mark.parametrize("state", [0, 1, 2**63, 2**64 - 1, random.key(7, "x", -1)])
def test_compiled_uniform_is_the_python_one_bit_for_bit(state):
    for number in (0, 1, 2, 54, 10**6):
        assert draws.uniform(np.uint64(state), number) == random.uniform(state, number)


@pytest.mark.parametrize(("seed", "epoch", "index"), [(0, 0, 0), (2**40, 999, 7), (-1, 3, 1)])
def test_every_parameter_equals_the_python_arithmetic(seed, epoch, index):
    ids = np.array([0, 1, 17, 2**62, -5])
    source = np.array([[32, 32], [375, 500], [8, 8], [100, 60], [31, 64]])
    how = draws.draw(ids, source, SIMCLR, seed, epoch, index)
    for i, ident in enumerate(ids):
        expected = by_hand(seed, epoch, int(ident), index, *source[i].tolist(), SIMCLR)
        assert expected["box"] is not None
        for name, value in expected.items():
            np.testing.assert_array_equal(how[name][i], value, err_msg=name)


def test_draws_do_not_depend_on_the_batch_or_on_threads():
    ids = np.random.default_rng(0).permutation(3000)
    whole = drawn(ids=ids)
    shuffled = np.random.default_rng(1).permutation(3000)
    threaded = draws.draw(ids[shuffled], np.full((3000, 2), 32), SIMCLR, 3, 5, 1, threads=3)
    for name, values in whole.items():
        np.testing.assert_array_equal(values[shuffled], threaded[name], err_msg=name)


@pytest.mark.parametrize("change", [{"seed": 4}, {"epoch": 6}, {"index": 0}])
def test_seed_epoch_and_view_each_give_other_draws(change):
    assert not np.array_equal(drawn(50)["jitter"], drawn(50, **change)["jitter"])


def test_switching_one_operation_leaves_the_others_as_they_were():
    on, off = drawn(200), drawn(200, ranges=SIMCLR._replace(jitter=0.0, flip=1.0))
    for name in ("box", "order", "grey", "sigma", "solarise", "angle", "noise_key"):
        np.testing.assert_array_equal(on[name], off[name], err_msg=name)
    assert (off["jitter"] == [1, 1, 1, 0]).all() and off["flip"].all()


def test_frequencies_and_ranges_are_those_asked_for():
    how = drawn(8000)
    for name, chance in (("flip", 0.5), ("grey", 0.2), ("solarise", 0.2)):
        assert abs(how[name].mean() - chance) < 5 * math.sqrt(chance * (1 - chance) / 8000), name
    assert abs((how["sigma"] > 0).mean() - 0.5) < 0.03
    assert abs((how["jitter"][:, 0] != 1).mean() - 0.8) < 0.03
    active = how["jitter"][how["jitter"][:, 0] != 1]
    for k, (low, high) in enumerate(SIMCLR.factors):
        assert active[:, k].min() >= low and active[:, k].max() <= high
        assert active[:, k].mean() == pytest.approx((low + high) / 2, abs=0.03)
    for place in range(4):  # each operation is equally often at each place
        counts = np.bincount(how["order"][:, place], minlength=4)
        assert np.abs(counts - 2000).max() < 200
    assert len(np.unique(how["noise_key"])) == 8000


def test_crops_lie_inside_and_fill_the_asked_area():
    how = drawn(4000, side=224)
    top, left, height, width = how["box"].T
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= 224).all() and (left + width <= 224).all()
    area = height * width / 224**2
    assert area.min() > 0.075 and area.max() <= 1
    assert area.mean() == pytest.approx(
        0.51, abs=0.04
    )  # a little under the mean of the range: large odd shapes do not fit
    assert ((width / height > 0.73) & (width / height < 1.37)).all()


@pytest.mark.parametrize(
    ("size", "box"), [((10, 400), [0, 193, 10, 13]), ((400, 10), [193, 0, 13, 10]), ((50, 50), [0, 0, 50, 50])]
)
def test_when_no_try_fits_the_crop_is_central_with_the_nearest_allowed_aspect(size, box):
    impossible = SIMCLR._replace(area=(1.0, 1.0), aspect=(3 / 4, 4 / 3) if size[0] != size[1] else (1.0, 1.0))
    how = draws.draw(np.arange(20), np.tile(size, (20, 1)), impossible, 0, 0, 0)
    assert (how["box"] == box).all()


def test_neutral_parameters_are_a_fixed_point():
    off = draws.Ranges((1, 1), (1, 1), 0, 0, ((1, 1),) * 3 + ((0, 0),), 0, 0, (1, 1), 0, 0, 0)
    source = np.full((3, 2), 16)
    how, neutral = draws.draw(np.arange(3), source, off, 0, 0, 0), draws.neutral(source)
    for name in ("box", "flip", "angle", "jitter", "grey", "sigma", "solarise", "noise"):
        np.testing.assert_array_equal(how[name], neutral[name], err_msg=name)


@pytest.mark.parametrize("compile_", [jit, fast_jit])
def test_code_without_a_writable_cache_folder_still_compiles(compile_):
    space = {}
    exec(compile("def twice(x):\n    return 2 * x\n", "<nowhere>", "exec"), space)
    assert compile_(space["twice"])(21) == 42


def test_spread_covers_every_item_once_and_passes_faults_on():
    seen = np.zeros(1001, int)

    def count(begin, end):
        seen[begin:end] += 1

    for threads, grain in ((1, 1), (3, 1), (8, 400), (4, 5000)):
        seen[:] = 0
        spread(count, 1001, threads, grain)
        assert (seen == 1).all()

    def fail(begin, end):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        spread(fail, 100, 2, 1)


def _count_in_child():
    seen = np.zeros(10, int)

    def count(begin, end):
        seen[begin:end] += 1

    spread(count, 10, 2, 1)
    sys.exit(0 if (seen == 1).all() else 1)


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_makes_threads_of_its_own():
    spread(lambda begin, end: None, 10, 2, 1)  # now this process has threads, which a fork does not copy
    child = multiprocessing.get_context("fork").Process(target=_count_in_child)
    child.start()
    child.join(timeout=30)
    alive = child.is_alive()
    child.kill()
    assert not alive and child.exitcode == 0
