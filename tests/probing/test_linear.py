"""Linear probes: optimality, agreement of one head with many, and the quality of scikit-learn's logistic regression."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tacit.core.errors import DataError
from tacit.ops.softmax import cross_entropy, head_gradients
from tacit.probing.linear import FEW, Scale, Turned, fit_logistic, fit_sgd, logistic_heads, sgd_heads
from tacit.probing.ridge import fit_ridge, ridge_path


@pytest.fixture
def data():
    rng = torch.Generator().manual_seed(0)
    y = torch.randint(4, (200,), generator=rng)
    x = torch.randn(4, 6, generator=rng)[y] + torch.randn(200, 6, generator=rng)
    return x.double(), y


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return x.astype(np.float32), y


def accuracy(fitted, x, y):
    return float((fitted.predict(x).numpy() == np.asarray(y)).mean())


def test_gradients_equal_autograd(data):
    x, y = data
    rng = torch.Generator().manual_seed(1)
    weight = torch.randn(3, 4, 6, generator=rng, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    share = torch.rand(200, 3, generator=rng, dtype=torch.float64)
    logits = torch.einsum("nd,pcd->npc", x, weight) + bias
    (cross_entropy(logits, y) * share).sum().backward()
    grad_w, grad_b = head_gradients(x, y, weight.detach(), bias.detach(), share)
    torch.testing.assert_close(grad_w, weight.grad)
    torch.testing.assert_close(grad_b, bias.grad)
    one = cross_entropy(logits.detach()[:, 0], y) if logits.ndim == 2 else cross_entropy(logits.detach(), y)[:, 0]
    torch.testing.assert_close(one, torch.nn.functional.cross_entropy(logits.detach()[:, 0], y, reduction="none"))


def test_every_head_of_the_path_is_the_optimum_of_its_penalty(data):
    """At the minimum the gradient of mean cross entropy + penalty/2 |w|^2 vanishes; sklearn's C is 1 / (n penalty)."""
    x, y = data
    penalties = torch.tensor([1e-3, 1e-2, 1.0], dtype=torch.float64)
    weight, bias = logistic_heads(x, y, penalties, 4, iterations=3000, tolerance=1e-9)
    grad_w, grad_b = head_gradients(x, y, weight, bias)
    torch.testing.assert_close(grad_w, -penalties[:, None, None] * weight, rtol=0, atol=1e-8)
    assert float(grad_b.abs().max()) < 1e-8
    for p, w in zip(penalties.tolist(), weight, strict=True):
        theirs = LogisticRegression(C=1 / (200 * p), tol=1e-10, max_iter=5000).fit(x.numpy(), y.numpy())
        torch.testing.assert_close(w, torch.from_numpy(theirs.coef_), rtol=0, atol=1e-5)


def test_a_head_of_many_equals_that_head_alone(data):
    x, y = data
    penalties = torch.tensor([1e-3, 1e-1], dtype=torch.float64)
    both, _ = logistic_heads(x, y, penalties, 4, iterations=50, tolerance=0)
    alone, _ = logistic_heads(x, y, penalties[1:], 4, iterations=50, tolerance=0)
    torch.testing.assert_close(both[1:], alone)
    rates, decays = torch.tensor([0.01, 0.3]), torch.tensor([0.1, 0.0])
    both, _ = sgd_heads(x, y, rates, decays, 4, epochs=2, batch=64, seed=5)
    alone, _ = sgd_heads(x, y, rates[1:], decays[1:], 4, epochs=2, batch=64, seed=5)
    torch.testing.assert_close(both[1:], alone)


def test_more_features_than_samples_are_moved_in_the_span_of_the_samples():
    """Few samples of many features take the steps of all features, in at most as many directions; features of zeros move nothing."""
    rng = torch.Generator().manual_seed(2)
    x, y = torch.randn(24, 300, generator=rng, dtype=torch.float64), torch.arange(24) % 4
    x = torch.cat([x, x[:4] + 0.1, torch.zeros(24 - 20, 300, dtype=torch.float64)]) - 0.2
    y = torch.cat([y, torch.arange(8) % 4])
    turned = Turned.of(x)
    assert turned.basis.shape[0] == 300 and turned.basis.shape[1] <= len(x)
    torch.testing.assert_close(turned.z @ turned.basis.T, x)  # nothing of the samples is lost
    full = Turned(*torch.linalg.eigh(x.T @ x / len(x)), x)
    full = full._replace(spectrum=full.spectrum.clamp(min=0), z=x @ full.basis)
    penalties = torch.tensor([1e-3, 1.0], dtype=torch.float64)
    few, few_bias = logistic_heads(x, y, penalties, 4, iterations=60, tolerance=0)
    all_, all_bias = logistic_heads(x, y, penalties, 4, iterations=60, tolerance=0, turned=full)
    torch.testing.assert_close(few, all_, rtol=0, atol=1e-7)
    torch.testing.assert_close(few_bias, all_bias, rtol=0, atol=1e-7)
    weight, _ = logistic_heads(torch.zeros(6, 9), torch.arange(6) % 3, torch.tensor([0.1]), 3, iterations=5)
    assert not weight.any()


def test_samples_of_no_share_are_not_seen(data):
    x, y = data
    share = torch.zeros(200, 1, dtype=torch.float64)
    share[:150] = 1 / 150
    one = torch.tensor([0.01], dtype=torch.float64)
    masked, _ = logistic_heads(x, y, one, 4, share=share, iterations=2000, tolerance=1e-9)
    cut, _ = logistic_heads(x[:150], y[:150], one, 4, iterations=2000, tolerance=1e-9)
    torch.testing.assert_close(masked, cut, rtol=0, atol=1e-6)


def test_one_sgd_step_is_torchs(data):
    x, y = data
    layer = torch.nn.Linear(6, 4, dtype=torch.float64)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimiser = torch.optim.SGD(
        [{"params": layer.weight, "weight_decay": 0.1}, {"params": layer.bias}], lr=0.3, momentum=0.9
    )
    rule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.5 * (1 + math.cos(math.pi * step / 5)))
    for _ in range(5):  # full batches, so that the order of the samples does not matter
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(layer(x), y).backward()
        optimiser.step()
        rule.step()
    weight, bias = sgd_heads(x, y, torch.tensor([0.3]), torch.tensor([0.1]), 4, epochs=5, batch=200)
    torch.testing.assert_close(weight[0], layer.weight.detach(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(bias[0], layer.bias.detach(), rtol=1e-6, atol=1e-7)


def test_digits_within_half_a_point_of_sklearn(digits):
    """Mean over three splits, standardised alike; C by 5-fold cross-validation on train."""
    x, y = digits
    ours, theirs = [], []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(x))
        train, test = order[:900], order[900:]
        ours.append(accuracy(fit_logistic(x[train], y[train]), x[test], y[test]))
        model = make_pipeline(
            StandardScaler(),
            LogisticRegressionCV(Cs=np.logspace(-3, 2, 6), cv=5, max_iter=500, tol=1e-3, use_legacy_attributes=True),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own announcements of deprecated arguments
            theirs.append(model.fit(x[train], y[train]).score(x[test], y[test]))
    assert np.mean(ours) > np.mean(theirs) - 0.005


def test_sgd_and_ridge_learn_digits_too(digits):
    x, y = digits
    train, test = np.arange(900), np.arange(900, len(x))
    assert accuracy(fit_sgd(x[train], y[train], epochs=10), x[test], y[test]) > 0.88
    assert accuracy(fit_ridge(x[train], y[train]), x[test], y[test]) > 0.86


def test_units_of_the_features_change_nothing(data):
    x, y = data
    scaled = x * torch.tensor([1e3, 1, 1e-3, 5, 1, 1]) + 7
    for fit in (fit_logistic, fit_ridge, fit_sgd):
        assert torch.equal(fit(x, y).predict(x), fit(scaled, y).predict(scaled))


def test_a_constant_feature_is_harmless(data):
    x, y = data
    wide = torch.cat([x, torch.full((200, 1), 3.0, dtype=torch.float64)], dim=1)
    assert torch.equal(fit_logistic(x, y).predict(x), fit_logistic(wide, y).predict(wide))
    torch.testing.assert_close(Scale.of(wide)(wide)[:, 6], torch.zeros(200, dtype=torch.float64))


def test_a_rate_that_diverges_is_not_chosen_and_spoils_no_other(data):
    x, y = data
    fitted = fit_sgd(x * 1e3, y, rates=(0.1, 1e200), decays=(1.0,), epochs=3)
    assert fitted.chosen["rate"] == 0.1
    assert accuracy(fitted, x * 1e3, y) > 0.5


def test_settings_are_chosen_without_the_test_set_and_with_one_label_per_class_by_rule(data):
    x, y = data
    fitted = fit_logistic(x, y)
    assert 0.5 < fitted.held_out < 1
    single = [int((y == c).nonzero()[0]) for c in range(4)]
    few = fit_logistic(x[single], y[single])
    assert few.chosen == {"penalty": FEW}
    assert math.isnan(few.held_out)
    assert fit_sgd(x[single], y[single]).chosen == {"rate": 0.1, "decay": 0.0}
    assert fit_ridge(x[single], y[single]).chosen == {"penalty": 1.0}
    for fit in (fit_logistic, fit_sgd, fit_ridge):
        assert accuracy(fit(x[single], y[single]), x[single], y[single]) == 1


@pytest.mark.parametrize("shape", [(40, 6), (30, 50)])
def test_ridge_path_solves_its_equations_and_leaves_one_out_exactly(shape):
    n, d = shape
    rng = torch.Generator().manual_seed(3)
    x = torch.randn(n, d, generator=rng, dtype=torch.float64) + 2
    t = torch.randn(n, 3, generator=rng, dtype=torch.float64)
    penalties = torch.tensor([1e-2, 1.0], dtype=torch.float64)
    weight, bias, left_out = ridge_path(x, t, penalties)
    for p, w, b, out in zip(penalties, weight, bias, left_out, strict=True):
        torch.testing.assert_close((x - x.mean(0)).T @ (t - x @ w - b), n * p * w, rtol=0, atol=1e-8)
        for i in (0, 7):
            rest = torch.arange(n) != i
            # leaving one out keeps n * p, the absolute penalty, not p
            w_i, b_i, _ = ridge_path(x[rest], t[rest], p[None] * n / (n - 1))
            torch.testing.assert_close(x[i] @ w_i[0] + b_i[0], out[i], rtol=1e-7, atol=1e-9)


X, Y = torch.eye(3), torch.tensor([0, 1, 1])


@pytest.mark.parametrize("fit", [fit_logistic, fit_sgd, fit_ridge])
@pytest.mark.parametrize(
    ("x", "y", "sentence"),
    [
        (X, Y * 0, "train labels hold the one class 0: a probe needs at least two to tell apart"),
        (X, None, "train labels are missing: a probe needs one class label per sample; judge needs none"),
        (X, Y[:2], "train has 3 features but 2 labels: they must describe the same samples"),
        (
            X * math.inf,
            Y,
            "train features hold NaN or infinite values in 3 of 3 rows, first in row 0: "
            "the model diverged or its input was not finite",
        ),
    ],
)
def test_refusals(fit, x, y, sentence):
    with pytest.raises(DataError) as error:
        fit(x, y)
    assert str(error.value) == sentence
