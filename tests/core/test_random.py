"""Randomness is a function of its key."""

import numpy as np

from tacit.core.random import key, keys, order, torch_seed, torch_seeds, uniform, uniforms


def test_the_same_key_gives_the_same_bits_and_another_key_others():
    assert key(1, "views", 2) == key(1, "views", 2)
    assert len({key(seed, word, number) for seed in range(5) for word in ("a", "b") for number in range(5)}) == 50
    assert key(1, 2) != key(2, 1)


def test_a_key_goes_on_from_the_key_of_its_beginning():
    assert key(3, "step", 17, 2) == key(17, 2, after=key(3, "step")) == key("step", 17, 2, after=key(3))
    assert torch_seed(3, "step", 17, 2) == torch_seed(17, 2, after=key(3, "step"))


def test_first_output_of_splitmix64():
    """SplitMix64 seeded with 0 first returns 0xE220A8397B1DCDAF (the published test value of the generator)."""
    assert key(0) == 0xE220A8397B1DCDAF


def test_uniform_draws_fill_the_unit_interval_evenly():
    draws = np.array([uniform(key(3, sample), draw) for sample in range(200) for draw in range(50)])
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(draws.mean() - 0.5) < 4 * (1 / 12 / draws.size) ** 0.5  # four standard errors
    counts = np.histogram(draws, bins=20, range=(0, 1))[0]
    assert ((counts - 500) ** 2 / 500).sum() < 43.8  # chi-square, 19 degrees of freedom, p = 0.001


def test_order_is_a_permutation_and_a_function_of_seed_and_epoch():
    assert sorted(order(0, 0, 100)) == list(range(100))
    assert (order(7, 3, 100) == order(7, 3, 100)).all()
    assert (order(7, 3, 100) != order(7, 4, 100)).any()
    assert (order(7, 3, 100) != order(8, 3, 100)).any()
    assert list(order(0, 0, 0)) == []


def test_torch_seeds_fit_in_63_bits():
    assert all(0 <= torch_seed(seed, "weights") < 1 << 63 for seed in range(100))


def test_seeds_made_many_at_a_time_are_those_made_one_by_one():
    root = key(3, "step")
    steps = np.array([0, 1, 7, 2**40, 2**64 - 1], dtype=np.uint64)
    assert torch_seeds(steps, 5, after=root) == [torch_seed(int(step), 5, after=root) for step in steps]


def test_keys_and_draws_made_many_at_a_time_are_those_made_one_by_one():
    ids = np.array([0, 3, 2**40, 2**64 - 1], dtype=np.uint64)
    states = keys(ids, "lie", -1, after=key(7, 2))
    assert states.tolist() == [key(7, 2, int(i), "lie", -1) for i in ids]
    draws = np.array([0, 5, 64], dtype=np.uint64)
    assert uniforms(states, draws).tolist() == [[uniform(int(s), int(d)) for d in draws] for s in states]
