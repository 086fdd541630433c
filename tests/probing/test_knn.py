"""k-NN: laws of neighbours, of votes, and of ties."""

from __future__ import annotations

import math

import pytest
import torch

from tacit.core.errors import DataError
from tacit.probing import knn


@pytest.fixture
def data():
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn(6, 8, generator=rng)
    y = torch.randint(6, (120,), generator=rng)
    t = torch.randint(6, (40,), generator=rng)
    return centres[y] + torch.randn(120, 8, generator=rng), y, centres[t] + torch.randn(40, 8, generator=rng), t


def test_one_neighbour_is_the_nearest(data):
    x, y, q, _ = data
    cosine = torch.nn.functional.normalize(q, dim=1) @ torch.nn.functional.normalize(x, dim=1).T
    assert torch.equal(knn(x, y, q, k=1)[1].prediction, y[cosine.argmax(dim=1)])


def test_weights_are_those_of_dino(data):
    """Scores sum exp(cosine / T) over the k nearest of each class."""
    x, y, q, _ = data
    cosine = torch.nn.functional.normalize(q.double(), dim=1) @ torch.nn.functional.normalize(x.double(), dim=1).T
    for k, found in knn(x, y, q, k=(5, 20), temperature=0.07).items():
        value, index = cosine.topk(k, dim=1)
        score = torch.zeros(40, 6, dtype=torch.float64).scatter_add_(1, y[index], (value / 0.07).exp())
        assert torch.equal(found.top, score.argsort(dim=1, descending=True)[:, :5])
        torch.testing.assert_close(found.score.double(), score.max(dim=1).values / score.sum(dim=1), rtol=1e-5, atol=0)


def test_all_k_in_one_pass_equal_each_k_alone(data):
    x, y, q, _ = data
    together = knn(x, y, q, k=(20, 1, 7))
    assert list(together) == [20, 1, 7]
    for k, found in together.items():
        assert torch.equal(found.top, knn(x, y, q, k=k, chunk=7)[k].top)


def test_the_order_of_the_bank_changes_nothing_even_with_ties():
    rng = torch.Generator().manual_seed(1)
    x = torch.randint(-1, 2, (200, 3), generator=rng).float()  # many equal rows of different classes
    y = torch.randint(4, (200,), generator=rng)
    q = torch.randint(-1, 2, (30, 3), generator=rng).float()
    mixed = torch.randperm(200, generator=rng)
    for k, found in knn(x, y, q).items():
        other = knn(x[mixed], y[mixed], q)[k]
        assert torch.equal(found.top, other.top)
        assert torch.equal(found.score, other.score)


def test_an_infinite_temperature_is_the_majority_and_ties_go_to_the_lower_class(data):
    x, y, q, _ = data
    cosine = torch.nn.functional.normalize(q, dim=1) @ torch.nn.functional.normalize(x, dim=1).T
    for k, found in knn(x, y, q, k=(4, 9), temperature=math.inf).items():
        counts = torch.nn.functional.one_hot(y[cosine.topk(k, dim=1).indices], 6).sum(dim=1)
        majority = [row.index(max(row)) for row in counts.tolist()]
        assert found.prediction.tolist() == majority
        torch.testing.assert_close(found.score, counts.max(dim=1).values / k)
        assert knn(x, y, q, k=k, temperature=1e6)[k].accuracy(torch.tensor(majority)) > 0.9


def test_k_beyond_the_bank_is_the_whole_bank(data):
    x, y, q, _ = data
    found = knn(x, y, q, k=(120, 500))
    assert torch.equal(found[500].top, found[120].top)


def test_scale_and_rotation_of_the_features_change_nothing(data):
    x, y, q, _ = data
    x, q = x.double(), q.double()
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)).Q
    assert torch.equal(knn(x, y, q)[20].top, knn(7 * x @ turn, y, 0.1 * q @ turn)[20].top)


def test_classes_come_from_the_bank_and_may_have_gaps():
    x = torch.eye(3)
    found = knn(x, torch.tensor([9, 0, 4]), x, k=1)[1]
    assert found.prediction.tolist() == [9, 0, 4]
    assert found.top.shape == (3, 5)


def test_zero_vectors_are_far_from_none_and_near_to_none():
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    found = knn(x, torch.tensor([2, 1, 0]), torch.tensor([[0.0, 0.0], [5.0, 0.0]]), k=1)[1]
    assert found.prediction.tolist() == [0, 1]  # cosine 0 with all three: the lower class
    assert torch.isfinite(found.score).all()


def test_skip_self_is_leave_one_out(data):
    x, y, _, _ = data
    found = knn(x, y, x, k=(1, 5), skip_self=True, chunk=11)
    for i in range(0, 120, 17):
        rest = torch.arange(120) != i
        for k in (1, 5):
            assert torch.equal(found[k].top[i], knn(x[rest], y[rest], x[i : i + 1], k=k)[k].top[0])
    assert knn(x, y, x, k=1)[1].accuracy(y) == 1


def test_top_five_holds_top_one(data):
    x, y, q, t = data
    found = knn(x, y, q, k=20)[20]
    assert found.accuracy(t) <= found.accuracy(t, best=5)
    assert torch.equal(found.top[:, 0], found.prediction)


X, Y = torch.eye(3), torch.tensor([0, 1, 1])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: knn(X, Y[:2], X), "train has 3 features but 2 labels: they must describe the same samples"),
        (lambda: knn(X, Y, X[:, :2]), "train features have width 3 and test features 2: use one model and layer"),
        (lambda: knn(X, Y, X, k=()), "k must name at least one number of neighbours, each at least 1, found []"),
        (
            lambda: knn(X, Y, X, k=(0, 1)),
            "k must name at least one number of neighbours, each at least 1, found [0, 1]",
        ),
        (lambda: knn(X, Y, X, temperature=0), "the temperature must be above 0, found 0: DINO uses 0.07"),
        (lambda: knn(X, Y, X[:2], skip_self=True), "skip_self needs test to be train, found 2 and 3 rows"),
        (
            lambda: knn(X[:1], Y[:1], X[:1], skip_self=True),
            "skip_self leaves no neighbour in a bank of one row: give at least two",
        ),
        (
            lambda: knn(X, None, X),
            "train labels are missing: a probe needs one class label per sample; judge needs none",
        ),
        (
            lambda: knn(X, Y - 1, X),
            "train labels are missing (negative) for 1 of 3 samples: leave those samples out",
        ),
        (lambda: knn(X, Y.float(), X), "train labels must be whole numbers [samples], found torch.float32 [3]"),
        (
            lambda: knn(X, Y, X * math.nan),
            "test features hold NaN or infinite values in 3 of 3 rows, first in row 0: "
            "the model diverged or its input was not finite",
        ),
        (
            lambda: knn(X[0], Y, X),
            "train features must be [samples features], found [3]: flatten or pool them first",
        ),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(DataError) as error:
        call()
    assert str(error.value) == sentence
