"""Regression: closed forms, invariances, what each protocol draws, the yardsticks, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tacit.core.errors import DataError, UnknownNameError
from tacit.core.values import Features
from tacit.probing import (
    evaluate_regression,
    fit_mlp,
    fit_regression,
    fit_supervised,
    picture_statistics,
    read_records,
    regression,
    regression_summary,
    write_records,
)
from tacit.probing.ridge import ridge_path


def linear_task(n=80, m=40, d=5, noise=0.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    x, z = torch.randn(n, d, generator=g).double(), torch.randn(m, d, generator=g).double()
    w = torch.randn(d, 2, generator=g).double()
    y, t = x @ w + 3, z @ w + 3
    return x, y + noise * torch.randn(n, 2, generator=g), z, t


def rows(records, **equal):
    return regression_summary(records.only(**equal))


def test_a_linear_map_is_found_exactly_whatever_the_scale_and_turn_of_the_features():
    x, y, z, t = linear_task()
    turn = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1)).double()).Q
    for a, b in ((x, z), (x * 1e3 + 7, z * 1e3 + 7), (x @ turn, z @ turn)):
        assert float((fit_regression(a, y)(b) - t).abs().max()) < 1e-4  # the smallest penalty is 1e-7


def test_each_factor_has_its_own_penalty():
    x, y, z, _ = linear_task(n=30)
    noise = torch.randn(30, generator=torch.Generator().manual_seed(2)).double()
    both = torch.stack([y[:, 0], noise], dim=1)
    assert float((fit_regression(x, both)(z)[:, 0] - fit_regression(x, y[:, :1])(z)[:, 0]).abs().max()) < 1e-12
    shrunk = fit_regression(x, both)(z)[:, 1]
    assert float(shrunk.std()) < 0.5 * float(noise.std())  # nothing to be learned: drawn to the mean


def test_views_of_a_sample_are_left_out_together():
    x, y, _, _ = linear_task(n=12, d=3, noise=0.5)
    views = torch.stack([x, x + 0.1, x * 1.1], dim=1).flatten(0, 1)
    both = y.repeat_interleave(3, dim=0)
    penalties = torch.tensor([1e-3, 1.0]).double()
    _, _, left_out = ridge_path(views, both, penalties, group=3)
    for i in (0, 7):
        keep = torch.arange(36) // 3 != i
        weight, bias, _ = ridge_path(views[keep], both[keep], penalties * 36 / 33)  # the penalty counts in rows
        expected = views[~keep] @ weight + bias[:, None]
        torch.testing.assert_close(left_out[:, ~keep], expected, atol=1e-6, rtol=1e-6)
    z = torch.stack([x, x], dim=1)
    targets = {"train": {"a": y[:, 0]}, "test": {"a": y[:, 0]}}
    one = evaluate_regression({"m": {"train": x, "test": x}}, targets, protocols=["linear/all"])
    two = evaluate_regression({"m": {"train": z, "test": x}}, targets, protocols=["linear/all"])
    a, b = ([float(p) for p in r.only(model="m").column("prediction").to_pylist()] for r in (one, two))
    assert a == pytest.approx(b, abs=1e-4)  # the same sample twice says nothing new


def test_the_errors_are_those_of_the_definition():
    x, y, z, t = linear_task(noise=0.5)
    targets = {"train": {"a": y[:, 0], "b": y[:, 1]}, "test": {"a": t[:, 0], "b": t[:, 1]}}
    records = evaluate_regression({"model": {"train": x, "test": z}}, targets, protocols=["linear/all"])
    p = fit_regression(x, y)(z)
    error = {metric: {r.factor: r for r in regression_summary(records.only(model="model"), metric=metric)}
             for metric in ("unexplained", "nmse", "relative")}  # fmt: skip
    for j, name in enumerate("ab"):
        e = (p - t)[:, j].square()
        assert error["unexplained"][name].value == pytest.approx(float(e.mean() / t[:, j].var(correction=0)), rel=1e-6)
        assert error["nmse"][name].value == pytest.approx(float(e.mean() / t[:, j].square().mean()), rel=1e-6)
        relative = ((p - t).abs() / t.abs())[:, j].mean()
        assert error["relative"][name].value == pytest.approx(float(relative), rel=1e-6)
        assert error["nmse"][name].low < error["nmse"][name].value < error["nmse"][name].high
        assert (error["nmse"][name].n, error["nmse"][name].seeds) == (40, 1)


def test_the_constant_is_the_mean_of_the_labels_it_was_given():
    x, y, z, t = linear_task()
    targets = {"train": {"a": y[:, 0]}, "test": {"a": t[:, 0]}}
    records = evaluate_regression(
        {"m": {"train": x, "test": z}}, targets, protocols=["linear/all", "linear/10-labels"], seeds=3
    )
    full = records.only(model="constant", protocol="linear/all@1")
    assert [float(r.prediction) for r in full] == pytest.approx([float(y[:, 0].mean())] * 40, rel=1e-8)
    few = records.only(model="constant", protocol="linear/10-labels@1")
    assert len({r.prediction for r in few}) == 3  # another draw for each seed


def test_few_labels_are_the_same_for_every_model_and_a_function_of_ids_and_seed():
    x, y, z, t = linear_task()
    targets = {"train": {"a": y[:, 0]}, "test": {"a": t[:, 0]}}
    seen = []

    def spy(at, seed):
        seen.append((seed, tuple(at.tolist())))
        return torch.zeros(40, 1)

    both = {"one": {"train": x, "test": z}, "two": {"train": x.clone(), "test": z}}
    records = evaluate_regression(
        both, targets, direct={"spy": spy}, protocols=["linear/10-labels"], seeds=4, direct_seeds=2
    )
    one, two = (records.only(model=name).column("prediction").to_pylist() for name in both)
    assert one == two
    assert [seed for seed, _ in seen] == [0, 1] and all(len(set(at)) == 10 for _, at in seen)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(3))
    moved = evaluate_regression(
        {"one": {"train": x[order], "test": z}},
        {"train": {"a": y[order, 0]}, "test": targets["test"]},
        {"train": order.numpy(), "test": np.arange(40)},
        protocols=["linear/10-labels"],
        seeds=4,
    )
    again = [float(p) for p in moved.only(model="one").column("prediction").to_pylist()]
    assert again == pytest.approx([float(p) for p in one], rel=1e-6)


def test_differences_are_paired_over_items_or_over_the_seeds_that_both_have(tmp_path):
    x, y, z, t = linear_task(noise=1.0)
    targets = {"train": {"a": y[:, 0]}, "test": {"a": t[:, 0]}}
    features = {"good": {"train": x, "test": z}, "half": {"train": x[:, :2], "test": z[:, :2]}}
    records = evaluate_regression(features, targets, protocols=["linear/all", "linear/20-labels"], seeds=5)
    write_records(tmp_path, records)
    back = read_records(tmp_path)
    assert len(back) == len(records)
    found = {(r.protocol, r.model): r for r in regression_summary(back, baseline="half")}
    for protocol in ("linear/all@1", "linear/20-labels@1"):
        good, half = found[protocol, "good"], found[protocol, "half"]
        assert half.difference is None and good.baseline == "half"
        assert good.difference.value == pytest.approx(good.value - half.value, rel=1e-6)
        assert good.difference.high < 0  # less error


def test_a_deep_probe_finds_what_a_linear_one_cannot():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(400, 2, generator=g) * 2 - 1
    y = (x[:, :1] * x[:, 1:]).double()
    linear = fit_regression(x[:300], y[:300])(x[300:])
    deep = fit_mlp(x[:300], y[:300], seed=0)
    error = [float((p - y[300:]).square().mean() / y[300:].var()) for p in (linear, deep(x[300:]))]
    assert error[0] > 0.8 and error[1] < 0.1
    assert torch.equal(fit_mlp(x[:300], y[:300], seed=0)(x[300:]), deep(x[300:]))


class Mean(nn.Module):
    """An encoder of two features: the mean of the picture through a learned slope."""

    dim = 2

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(1, 2)

    def forward(self, x):
        return Features(self.map(x.mean(dim=(1, 2, 3)).unsqueeze(1)))


def test_the_supervised_yardstick_learns_and_gives_answers_in_the_units_of_the_factor():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(64, 1, 1, 1, generator=g) + torch.rand(64, 1, 4, 4, generator=g)
    y = 1000 + 50 * x.mean(dim=(1, 2, 3)).double().unsqueeze(1)
    torch.manual_seed(0)
    epochs = []

    def pictures(rows, epoch):
        epochs.append(epoch)
        return x[torch.from_numpy(rows)]

    predict = fit_supervised(Mean(), nn.Linear(2, 1), pictures, y, steps=200, batch=16, rate=1e-2)
    assert float((predict(x) - y).abs().max()) < 0.05 * float(y.std())
    assert epochs[-1] == 199 // 4


def test_statistics_know_the_size_but_not_the_place():
    u = torch.randn(6, 1, 8, 16, generator=torch.Generator().manual_seed(0))
    plain = picture_statistics(u)
    moved = picture_statistics(u.roll(5, dims=3))
    assert plain.shape == (6, 32)
    keep = [c for c in range(32) if c % 16 != 7]  # the seam: neighbours along the last axis do not wrap
    torch.testing.assert_close(plain[:, keep], moved[:, keep])
    twice = picture_statistics(2 * u)
    torch.testing.assert_close(twice[:, 2], 4 * plain[:, 2])
    torch.testing.assert_close(twice[:, 18] - plain[:, 18], torch.full((6,), 4.0).double().log())


def test_what_makes_no_sense_is_refused():
    x, y, z, t = linear_task()
    features, targets = {"m": {"train": x, "test": z}}, {"train": {"a": y[:, 0]}, "test": {"a": t[:, 0]}}
    with pytest.raises(DataError, match="90 labels were asked for and train has 80: ask for fewer"):
        evaluate_regression(features, targets, protocols=["linear/90-labels"])
    with pytest.raises(DataError, match="m: train has 79 features but 80 factors: use the same samples"):
        evaluate_regression({"m": {"train": x[1:], "test": z}}, targets)
    bad = y[:, 0].clone()
    bad[3] = torch.nan
    with pytest.raises(DataError, match="train factors hold 1 values that are not finite: leave those samples out"):
        evaluate_regression(features, {"train": {"a": bad}, "test": targets["test"]})
    with pytest.raises(UnknownNameError, match=r"no protocol of regression named 'lin/all'. Known forms: linear/all@1"):
        regression("lin/all")
    with pytest.raises(UnknownNameError, match="asks for version 2, this is version 1"):
        regression("mlp/all@2")
    flat = evaluate_regression(features, {"train": targets["train"], "test": {"a": torch.ones(40)}})
    with pytest.raises(DataError, match="the factor does not vary over the test items: there is nothing to regress"):
        regression_summary(flat)
    none = evaluate_regression(features, {"train": targets["train"], "test": {"a": torch.arange(40.0)}})
    with pytest.raises(
        DataError, match="a relative error needs factors that are not zero: use the metric 'unexplained'"
    ):
        regression_summary(none, metric="relative")
    with pytest.raises(UnknownNameError, match=r"no metric of regression named 'mse'. Did you mean 'nmse'"):
        regression_summary(flat, metric="mse")
