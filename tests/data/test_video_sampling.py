"""Which frames make a clip: closed forms, bounds, and a function of the key alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tacit.core.errors import DataError, RecipeError
from tacit.core.random import key
from tacit.data.video_sampling import Sampling, choose_frames


def steady(n, rate=30.0):
    return np.arange(n) / rate, rate


def test_a_centred_clip_lies_in_the_middle_of_each_segment():
    found = choose_frames(*steady(300), Sampling(16, step=4, segments=2, position="centre"))
    assert found[0].tolist() == list(range(44, 108, 4)) and (found[1] - found[0] == 150).all()  # 44 = (150 - 61) // 2


def test_uniform_clips_touch_both_ends_and_start_at_equal_distances():
    found = choose_frames(*steady(100), Sampling(8, step=4, segments=3, position="uniform"))
    assert found[:, 0].tolist() == [0, 35, 71] and found[-1, -1] == 99  # (100 - 29) / 2 = 35.5


def test_random_clips_are_a_function_of_the_key_and_cover_every_start():
    sampling = Sampling(4, step=2)
    starts = [choose_frames(*steady(12), sampling, key(0, i))[0, 0] for i in range(200)]
    assert set(starts) == set(range(6))  # 12 - 7 + 1 places
    assert starts == [choose_frames(*steady(12), sampling, key(0, i))[0, 0] for i in range(200)]


def test_jitter_moves_frames_within_their_step_and_keeps_their_order():
    plain, moved = (choose_frames(*steady(300), Sampling(16, step=8, jitter=j), 7) for j in (0.0, 1.0))
    assert (np.abs(moved - plain) <= 4).all() and (np.diff(moved) >= 0).all() and (moved != plain).any()
    assert (
        choose_frames(*steady(300), Sampling(16, step=8, jitter=1.0, position="centre"), 7) == np.arange(89, 217, 8)
    ).all()


@pytest.mark.parametrize("short", ["hold", "loop", "stretch", "stop"])
def test_a_short_video_is_held_looped_stretched_or_refused(short):
    sampling = Sampling(8, step=2, short=short)
    if short == "stop":
        with pytest.raises(DataError) as caught:
            choose_frames(*steady(6), sampling)
        assert str(caught.value) == (
            "it has 6 frames, and a clip spans 15 of them: lower frames, step or duration, or say what to do with short videos, short: "
            "hold, loop or stretch"
        )
        return
    wanted = {"hold": [0, 2, 4, 5, 5, 5, 5, 5], "loop": [0, 2, 4, 0, 2, 4, 0, 2], "stretch": [0, 0, 1, 2, 2, 3, 4, 5]}
    assert choose_frames(*steady(6), sampling)[0].tolist() == wanted[short]


def test_a_segment_that_is_too_short_reaches_into_its_neighbours():
    found = choose_frames(*steady(40), Sampling(8, step=4, segments=4, position="centre"))
    assert found[0, 0] == 0 and found[-1, -1] == 39 and (np.diff(found, axis=1) == 4).all()


def test_frames_by_time_are_those_on_the_screen_whatever_the_rate():
    times = np.cumsum([0.0, *[0.1, 0.3] * 20])
    found = choose_frames(times, 5.0, Sampling(8, fps=4.0, position="start"))[0]
    at = np.arange(8) / 4
    assert (times[found] <= at + 1e-6).all() and (times[found + 1] > at).all()
    for rate in (10.0, 24.0, 60.0):  # the same seconds at every rate
        t = np.arange(int(5 * rate)) / rate
        found = choose_frames(t, rate, Sampling(8, fps=4.0, position="centre"))[0]
        assert np.abs(t[found] - (np.arange(8) / 4 + (5 - 7 / 4 - 1 / rate) / 2)).max() <= 1 / rate + 1e-9
    found = choose_frames(*steady(300), Sampling(10, duration=5.0, position="start"))[0]
    assert found.tolist() == list(range(0, 150, 15))


def test_a_window_bounds_every_frame():
    for i in range(20):
        found = choose_frames(*steady(300), Sampling(8, step=2), key(1, i), window=(4.0, 6.0))
        assert found.min() >= 120 and found.max() <= 180


def test_the_published_frames_are_reproduced():
    """n = 300 at 30 a second, 4 a second asked for: step 7, and 16 frames over 112 lie 112 / 15 apart (the reference's example)."""
    sampling = Sampling(16, fps=4.0, compat="official", position="random")
    rows = [choose_frames(*steady(300), sampling, key(3, i))[0].tolist() for i in range(400)]
    assert [172, 179, 186, 194, 201, 209, 216, 224, 231, 239, 246, 254, 261, 269, 276, 283] in rows
    steps = {rate: Sampling(16, fps=4).steps(rate) for rate in (30.0, 29.97, 25.0, 24.0, 60.0, 2.0)}
    assert steps == {30.0: 7, 29.97: 7, 25.0: 6, 24.0: 6, 60.0: 15, 2.0: 1}  # the last is refused by the published code
    short = choose_frames(*steady(20), replace(sampling, fps=None, step=4))[0]
    assert short.tolist() == [
        0,
        5,
        10,
        15,
        *[19] * 12,
    ]  # linspace(0, 20, 5), its end and what is held cut to the last frame
    many = choose_frames(*steady(100), Sampling(16, step=4, segments=2, position="uniform", compat="official"))
    assert (many[1] - many[0] == 36).all()  # (100 - 64) // 1: overlapping clips of an evaluation


def test_two_ways_to_space_frames_are_refused():
    with pytest.raises(RecipeError, match="step and fps: each says how far apart frames are: keep one of them"):
        Sampling(step=4, fps=4.0)
