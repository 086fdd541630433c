"""Linear evaluations of papers by name and version, the attentive probe, and fine-tuning with layer-wise decay."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tacit.core.errors import DataError, UnknownNameError
from tacit.core.random import torch_seed
from tacit.core.values import Facts, Features
from tacit.models.convnet import ConvNet
from tacit.models.resnet import ResNet
from tacit.models.timm import Timm
from tacit.models.vit import ViT
from tacit.probing import (
    FINETUNES,
    PUBLISHED,
    FineTune,
    evaluate,
    finetune,
    fit_attentive,
    fit_published,
    fit_strengths,
    layer_groups,
    named_finetune,
    protocol,
    share,
    summary,
)
from tacit.probing.finetuning import drop_paths, mixed


@pytest.fixture(scope="module")
def blobs():
    rng = torch.Generator().manual_seed(0)
    centres = 2 * torch.randn(5, 12, generator=rng)
    y = torch.arange(300) % 5
    return 3 + centres[y] + torch.randn(300, 12, generator=rng), y


@pytest.mark.parametrize("name", [name for name in PUBLISHED if ",cached" in name])
def test_every_published_protocol_learns_and_reads_back(blobs, name):
    x, y = blobs
    how = protocol(name)
    assert how.name == name
    assert protocol(name.partition("@")[0]) == how
    assert "arXiv" in how.text
    if how.steps:
        how = how.__class__(**{**vars(how), "steps": 300})
    if (
        how.optimizer == "lars"
    ):  # its rate is meant for 16,384 samples a step and 7,000 steps: 90 steps of 200 hardly move
        how = how.__class__(**{**vars(how), "rates": (30.0,)})
    fitted = fit_published(x[:200], y[:200], how)
    accuracy = float((fitted.predict(x[200:]) == y[200:]).double().mean())
    # DINO's rate of 0.001 for a batch of 1024 moves little in 100 updates of 200 samples; the others are at the ceiling
    assert accuracy > (0.3 if name.startswith(("dino/", "simclr/")) else 0.9)


def test_one_full_batch_step_is_the_published_arithmetic(blobs):
    """VICReg: w <- w - rate (gradient + decay w) from the start N(0, 0.01); a batch of all of train scales the rate by n / 256."""
    x, y = blobs[0][:128].double(), blobs[1][:128]
    how = PUBLISHED["vicreg/linear,cached@1"]
    once = how.__class__(**{**vars(how), "epochs": 1})
    fitted = fit_published(x, y, once)
    generator = torch.Generator().manual_seed(torch_seed(0, "published"))
    w = (torch.randn(5, 12, generator=generator).double() * 0.01).requires_grad_()
    b = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    nn.functional.cross_entropy(x @ w.T + b, y).backward()
    rate = 0.3 * 128 / 256
    torch.testing.assert_close(fitted.weight, (w - rate * (w.grad + 1e-6 * w)).detach(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(fitted.bias, (b - rate * b.grad).detach(), rtol=1e-6, atol=1e-9)


def test_maes_norm_makes_the_scale_of_features_irrelevant(blobs):
    x, y = blobs
    how = PUBLISHED["mae/linear,cached@1"]
    how = how.__class__(**{**vars(how), "rates": (30.0,)})
    a, b = fit_published(x, y, how), fit_published(1000 * x, y, how)
    assert (a.predict(x) == b.predict(1000 * x)).double().mean() > 0.99


def test_the_rate_is_chosen_on_held_out_training_samples(blobs):
    x, y = blobs
    how = PUBLISHED["dinov2/linear,cached@2"]
    fitted = fit_published(x, y, how.__class__(**{**vars(how), "steps": 100}))
    assert fitted.chosen["rate"] in how.rates
    assert 0.8 < fitted.held_out <= 1


def test_augmented_epochs_are_asked_for_in_turn(blobs):
    x, y = blobs
    seen = []
    how = PUBLISHED["vicreg/linear@1"]
    fit_published(x, y, how.__class__(**{**vars(how), "epochs": 3}), epoch=lambda e: seen.append(e) or x)
    assert seen == [0, 1, 2]


def test_nesterov_is_torchs(blobs):
    """SimCLR: full batches, so that five epochs are five steps of torch's optimiser from the same start."""
    x, y = blobs[0][:128].double(), blobs[1][:128]
    how = replace(PUBLISHED["simclr/linear,cached@2"], epochs=5)
    fitted = fit_published(x, y, how)
    generator = torch.Generator().manual_seed(torch_seed(0, "published"))
    w = (torch.randn(5, 12, generator=generator).double() * 0.01).requires_grad_()
    b = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    peak = 0.1 * 128 / 256
    optimizer = torch.optim.SGD([w, b], lr=peak, momentum=0.9, nesterov=True)
    for step in range(5):
        optimizer.param_groups[0]["lr"] = peak * (1 + math.cos(math.pi * step / 5)) / 2
        optimizer.zero_grad()
        nn.functional.cross_entropy(x @ w.T + b, y).backward()
        optimizer.step()
    torch.testing.assert_close(fitted.weight, w.detach(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("place", "blocks", "average"), [(3, 1, 0), (4, 1, 1), (0, 4, 0)])
def test_the_grid_reads_where_the_classes_are(blobs, place, blocks, average):
    """Rows of four class tokens and a mean patch, one of which knows the class: the fewest features with it win."""
    x, y = blobs
    rows = torch.randn(300, 5, 12, generator=torch.Generator().manual_seed(1))
    rows[:, place] = x
    how = replace(PUBLISHED["dinov2/linear,cached@2"], steps=150, rates=(1e-2, 0.1))
    fitted = fit_published(rows[:200].flatten(1), y[:200], how, parts=5)
    assert (fitted.chosen["blocks"], fitted.chosen["average"]) == (blocks, average)
    used = fitted.weight.view(5, 5, 12).abs().sum(dim=(0, 2)) > 0
    assert used.tolist() == [blocks == 4] * 3 + [True, average == 1]
    assert (fitted.predict(rows[200:].flatten(1)) == y[200:]).double().mean() > 0.9
    whole = fit_published(x[:200], y[:200], how)  # features without blocks
    assert "blocks" not in whole.chosen


@pytest.mark.parametrize("strength", [1e-2, 1.0])
def test_logistic_regression_is_scikit_learns_at_each_strength(blobs, strength):
    from sklearn.linear_model import LogisticRegression

    x, y = blobs
    fitted = fit_strengths(x[:200], y[:200], strengths=(strength,))
    theirs = LogisticRegression(C=strength, tol=1e-10, max_iter=1000).fit(x[:200].double(), y[:200])
    ours = fitted.logits(x[200:]).softmax(dim=1)
    torch.testing.assert_close(ours, torch.from_numpy(theirs.predict_proba(x[200:].double())), rtol=0, atol=1e-3)


def test_the_strength_is_chosen_on_a_tenth_and_is_one_where_nothing_can_be_held_out(blobs):
    x, y = blobs
    noisy = x + 6 * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    inside = np.zeros(300, dtype=bool)
    inside[share(y.numpy(), np.arange(300), 10.0, 0)] = True
    strengths = (1e-6, 1e-3, 1.0)
    right = [
        float((fit_strengths(noisy[~inside], y[~inside], strengths=(c,)).predict(noisy[inside]) == y[inside]).double().mean())
        for c in strengths
    ]  # fmt: skip
    fitted = fit_strengths(noisy, y, strengths=strengths)
    assert inside.sum() == 30
    assert fitted.held_out == pytest.approx(max(right))
    assert fitted.chosen["C"] == strengths[right.index(max(right))]
    alone = fit_strengths(torch.eye(3).repeat(1, 2), torch.arange(3))
    assert alone.chosen["C"] == 1.0
    assert math.isnan(alone.held_out)


def test_logistic_regression_has_draws_and_intervals_like_the_others(blobs):
    x, y = blobs
    features = {"m": {"train": x[:200], "test": x[200:]}}
    rows = summary(
        evaluate(
            features,
            {"train": y[:200], "test": y[200:]},
            protocols=["dinov2/logistic", "logistic/5-per-class"],
            seeds=3,
        )
    )
    assert [(row.protocol, row.seeds) for row in rows] == [("logistic/all@1", 1), ("logistic/5-per-class@1", 3)]
    assert all(row.low <= row.accuracy <= row.high and row.accuracy > 0.8 for row in rows)


def test_protocols_of_papers_by_other_names_and_what_arrays_cannot_give(blobs):
    assert protocol("dino/knn").name == "knn/k=20,t=0.07@1"
    assert protocol("instdisc/knn@1").name == "knn/k=200,t=0.1@1"
    with pytest.raises(UnknownNameError) as error:
        protocol("simclr/linear@1")
    assert str(error.value) == "protocol 'simclr/linear@1' asks for version 1, this is version 2: use 'simclr/linear@2'"
    with pytest.raises(UnknownNameError, match="of papers: dino/knn@1"):
        protocol("dina/knn@1")
    features = {"m": {"train": blobs[0], "test": blobs[0]}}
    labels = {"train": blobs[1], "test": blobs[1]}
    with pytest.raises(DataError) as error:
        evaluate(features, labels, protocols=["dino/linear"])
    assert str(error.value) == (
        "protocol 'dino/linear@1' augments the pictures anew each epoch, and these are features: use 'dino/linear,cached@1', or probe "
        "a run or a model folder"
    )
    with pytest.raises(DataError, match="protocol 'attentive/all@1' reads tokens, and these are pooled features"):
        evaluate(features, labels, protocols=["attentive/all"])


def test_the_attentive_probe_finds_the_token_that_matters_where_the_mean_cannot():
    """The class is the sign of one feature in the token that a key marks; the other tokens carry the opposite sign."""
    rng = torch.Generator().manual_seed(0)
    n, t, d = 400, 6, 8
    y = torch.arange(n) % 2
    x = 0.1 * torch.randn(n, t, d, generator=rng)
    x[:, :, 0] += (1.0 - 2 * y)[:, None] / (t - 1)
    marked = torch.randint(0, t, (n,), generator=rng)
    x[torch.arange(n), marked, 0] = (2.0 * y - 1) + 0.1 * torch.randn(n, generator=rng)
    x[torch.arange(n), marked, 1] += 2
    fitted = fit_attentive(x[:300], y[:300], heads=3, rates=(1e-3, 1e-2), epochs=30, batch=64)
    right = float((fitted.logits(x[300:]).argmax(dim=1) == y[300:]).double().mean())
    assert right > 0.95
    assert fitted.held_out > 0.9
    assert fitted.chosen["heads"] == 2  # the most that divide 8
    again = fit_attentive(x[:300], y[:300], heads=3, rates=(fitted.chosen["rate"],), epochs=30, batch=64)
    torch.testing.assert_close(again.logits(x[300:]), fitted.logits(x[300:]))
    assert math.isnan(again.held_out)
    with pytest.raises(
        DataError, match=r"an attentive probe reads tokens \[samples tokens features\] with a label each, found"
    ):
        fit_attentive(x[:, 0], y)


@pytest.mark.parametrize(
    ("encoder", "layers"),
    [
        (lambda: ViT(Facts(channels=3, shape=(8, 8)), patch=4, width=16, depth=3, heads=2), 3 + 1),
        (lambda: ResNet(Facts(channels=3, shape=(8, 8)), depth=18, width=0.125, stem="cifar"), 4),
        (lambda: ConvNet(Facts(channels=1, shape=(8, 8)), widths=(4, 8)), 2),
    ],
)
def test_rates_fall_by_layer_and_every_parameter_has_one(encoder, layers):
    module = encoder()
    groups = layer_groups(module, 0.5)
    held = [p for group in groups for p in group["params"]]
    assert len({id(p) for p in held}) == len(held) == len(list(module.parameters()))
    names = {id(p): name for name, p in module.named_parameters()}
    scale = {names[id(p)]: group["scale"] for group in groups for p in group["params"]}
    first = next(iter(names.values()))
    last = list(module.layer_names())[-1]
    assert max(scale.values()) == 0.5  # the end of the encoder, one below the classifier
    assert all(value == 0.5 for name, value in scale.items() if name.startswith(f"{last}."))
    assert scale[first] == pytest.approx(min(scale.values()))
    assert all(not group["decay"] for group in groups for p in group["params"] if p.ndim == 1)
    assert layers == len([name for name in module.layer_names() if name in dict(module.named_modules())])
    ones = layer_groups(module, 1.0)
    assert {group["scale"] for group in ones} == {1.0}


class Twice(nn.Module):
    dim = 4

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(6, 4)

    def forward(self, x):
        return Features(self.net(x))


def test_fine_tuning_moves_the_encoder_and_is_a_function_of_its_seed():
    rng = torch.Generator().manual_seed(0)
    y = torch.arange(120) % 3
    x = torch.eye(3, 6)[y] + 0.3 * torch.randn(120, 6, generator=rng)
    torch.manual_seed(0)
    start = Twice()
    how = FineTune(epochs=15, batch=32, rate=1e-2, layer_decay=0.8)
    found = []
    for seed in (0, 0, 1):
        net = copy.deepcopy(start)
        found.append(finetune(net, 3, lambda rows, _: x[torch.from_numpy(rows)], y, how, seed=seed)(x))
        assert not torch.equal(net.net.weight, start.net.weight)
        assert not net.training
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert float((found[0].argmax(dim=1) == y).double().mean()) > 0.9
    frozen = FineTune(epochs=2, batch=32, layer_decay=1e-9, weight_decay=0.0)
    net = copy.deepcopy(start)
    finetune(net, 3, lambda rows, _: x[torch.from_numpy(rows)], y, frozen)
    torch.testing.assert_close(
        net.net.weight, start.net.weight, rtol=0, atol=1e-6
    )  # a decay of nothing is a frozen encoder
    assert np.isfinite(found[0].numpy()).all()


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_a_mixed_image_holds_what_its_share_says(mixup, cutmix):
    """Images of one value each, so that the mean of a mixed one tells its share: blended, or pasted pixel by pixel."""
    x = torch.arange(6.0)[:, None, None, None].expand(6, 3, 10, 8).contiguous()
    shares, pasted = [], []
    for seed in range(200):
        out, share = mixed(x, mixup, cutmix, seed)
        expected = share * torch.arange(6.0) + (1 - share) * torch.arange(5.0, -1.0, -1.0)
        torch.testing.assert_close(out.mean(dim=(1, 2, 3)), expected)
        shares.append(share)
        pasted.append(bool(torch.equal(out, out.round())))  # whole values alone: pixels of one image or the other
        assert torch.equal(mixed(x, mixup, cutmix, seed)[0], out)
    assert abs(float(np.mean(shares)) - (0.5 if not cutmix else 0.6)) < 0.12  # pasting loses what falls outside
    part = float(np.mean(pasted))
    assert (part == 0.0) if not cutmix else (part == 1.0) if not mixup else 0.35 < part < 0.65


def test_dropped_paths_rise_to_the_last_block_of_any_vit():
    facts = Facts(channels=3, shape=(8, 8))
    ours = ViT(facts, patch=4, width=16, depth=3, heads=2)
    drop_paths(ours, 0.2)
    assert [block.drop_path for block in ours.blocks] == pytest.approx([0, 0.1, 0.2])
    theirs = Timm(Facts(channels=3, shape=(224, 224)), name="vit_tiny_patch16_224")
    drop_paths(theirs, 0.11)
    assert [block.drop_path2.p for block in theirs.model.blocks] == pytest.approx([0.01 * i for i in range(12)])
    with pytest.raises(DataError) as error:
        drop_paths(ResNet(facts, depth=18, width=0.125, stem="cifar"), 0.1)
    assert str(error.value) == (
        "fine-tuning with drop_path=0.1 needs an encoder of transformer blocks, and ResNet has none: set drop_path=0"
    )


@pytest.mark.parametrize("name", FINETUNES)
def test_the_fine_tuning_of_a_paper_trains_a_vit(name):
    named = named_finetune(name.partition("@")[0])
    assert "arXiv" in named.text
    how = replace(named.how, epochs=2, rate=1e-3)
    torch.manual_seed(0)
    net = ViT(Facts(channels=1, shape=(8, 8)), patch=4, width=16, depth=2, heads=2)
    y = torch.arange(24) % 3
    x = torch.randn(24, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    call = finetune(net, 3, lambda rows, _: x[torch.from_numpy(rows)], y, how)
    assert torch.isfinite(call(x)).all()
    assert named.labels in ("all", "10%", "1%")
    with pytest.raises(UnknownNameError, match="no fine-tuning named 'mae/finetunes@1'"):
        named_finetune("mae/finetunes@1")


def test_settings_without_sense_are_refused():
    with pytest.raises(DataError, match="fine-tuning moves by 'adamw' or 'sgd', found 'adam'"):
        FineTune(optimizer="adam")
    with pytest.raises(DataError, match="fine-tuning needs layer_decay above 0 and at most 1"):
        FineTune(layer_decay=0)
