import pytest
import torch
from torch import nn

from tacit.core.errors import RecipeError, RunError
from tacit.core.spec import Spec
from tacit.training.optimizers import rate_at, set_rate


def parameter(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    p = nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64))
    p.grad = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return p


def group(*params, decay=True, scale=1.0):
    return {"params": list(params), "decay": decay, "scale": scale}


def lars(params, *, decay=True, **settings):
    spec = Spec("optimizer", "lars", schedule=Spec("schedule", "constant"), **settings)
    return spec.build().build([group(*params, decay=decay)])


@pytest.mark.parametrize("definition", ["vicreg", "bolts"])
def test_the_first_lars_step_is_rate_times_eta_times_the_tensors_norm(definition):
    p, q = parameter(5, 4), parameter(3, 2, seed=1)
    before = [x.detach().clone() for x in (p, q)]
    lars([p, q], lr=0.3, eta=0.02, weight_decay=0.0, definition=definition).step()
    for x, b in zip((p, q), before, strict=True):
        assert (x - b).norm().item() == pytest.approx(0.3 * 0.02 * b.norm().item(), rel=1e-6)


@pytest.mark.parametrize("definition", ["vicreg", "bolts"])
def test_a_tensor_of_zeros_a_bias_and_a_group_without_decay_move_by_the_rate_times_the_gradient(definition):
    for p, decay in [(parameter(4, 3), True), (parameter(6), True), (parameter(4, 3), False)]:
        if p.ndim > 1 and decay:
            p.data.zero_()
        before = p.detach().clone()
        lars([p], decay=decay, lr=0.1, weight_decay=0.5, definition=definition).step()
        torch.testing.assert_close(p.detach(), before - 0.1 * p.grad)


def by_hand(p, gradients, definition, *, lr, eta, wd, momentum, clip):
    mu = torch.zeros_like(p)
    for g in gradients:
        if definition == "vicreg":
            d = g + wd * p
            d = d * eta * p.norm() / d.norm()
        else:
            q = eta * p.norm() / (g.norm() + wd * p.norm() + 1e-8)
            d = (min(q / lr, 1.0) if clip else q) * (g + wd * p)
        mu = momentum * mu + d
        p = p - lr * mu
    return p


@pytest.mark.parametrize(("definition", "clip"), [("vicreg", False), ("bolts", False), ("bolts", True)])
@pytest.mark.parametrize("lr", [0.5, 1e-4])
def test_five_lars_steps_equal_the_formula(definition, clip, lr):
    p = parameter(4, 3)
    gradients = [parameter(4, 3, seed=s).grad for s in range(2, 7)]
    settings = {"lr": lr, "eta": 0.02, "momentum": 0.8, "definition": definition, "clip": clip}
    wanted = by_hand(p.detach(), gradients, definition, lr=lr, eta=0.02, wd=0.1, momentum=0.8, clip=clip)
    optimizer = lars([p], weight_decay=0.1, **settings)
    for g in gradients:
        p.grad = g
        optimizer.step()
    torch.testing.assert_close(p.detach(), wanted)


def test_the_clip_of_another_definition_is_refused():
    with pytest.raises(
        RecipeError, match=r"optimizer: clip bounds the step of definition 'bolts' alone: set definition"
    ):
        Spec("optimizer", "lars", clip=True).resolve()


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(RecipeError, match=r"optimizer: nesterov looks ahead along the momentum, and momentum is 0"):
        Spec("optimizer", "sgd", nesterov=True, momentum=0.0).resolve()


@pytest.mark.parametrize("kind", ["sgd", "adamw", "lars"])
def test_every_group_has_its_rate_at_the_first_update_the_warm_ups_end_and_the_last(kind):
    schedule = Spec("schedule", "linear", warmup=0.25, start=0.0, final=0.5)
    part = Spec("optimizer", kind, lr=0.8, weight_decay=0.3, schedule=schedule).build()
    frozen = parameter(2, 2).requires_grad_(False)
    optimizer = part.build([group(parameter(3, 3), frozen), group(parameter(3), decay=False, scale=0.5)])
    steps = 8
    for step, factor in {0: 0.0, 1: 0.5, 2: 1.0, 7: 1 - 0.5 * 5 / 6}.items():
        set_rate(optimizer, rate_at(part, step / steps))
        assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.8 * factor, 0.4 * factor])
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.3, 0.0]
    assert [len(g["params"]) for g in optimizer.param_groups] == [1, 1]  # what does not learn is left out


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_equals_its_formula(nesterov):
    p = parameter(3, 2)
    wanted, mu = p.detach().clone(), None
    schedule = Spec("schedule", "constant")
    part = Spec(
        "optimizer", "sgd", lr=0.1, weight_decay=0.2, momentum=0.7, nesterov=nesterov, schedule=schedule
    ).build()
    optimizer = part.build([group(p)])
    for _ in range(3):
        d = p.grad + 0.2 * wanted
        mu = d if mu is None else 0.7 * mu + d
        wanted = wanted - 0.1 * (d + 0.7 * mu if nesterov else mu)
        optimizer.step()
    torch.testing.assert_close(p.detach(), wanted)


def test_the_first_adamw_step_is_the_sign_of_the_gradient_beside_the_decay():
    p = parameter(3, 2)
    before = p.detach().clone()
    part = Spec(
        "optimizer", "adamw", lr=0.1, weight_decay=0.5, eps=1e-12, schedule=Spec("schedule", "constant")
    ).build()
    part.build([group(p)]).step()
    torch.testing.assert_close(p.detach(), before * (1 - 0.1 * 0.5) - 0.1 * p.grad.sign())


def test_a_system_that_learns_nothing_is_refused():
    with pytest.raises(RunError, match="the system names no parameter that learns"):
        Spec("optimizer", "sgd").build().build([group(parameter(2).requires_grad_(False))])


def test_a_parameter_in_two_groups_is_refused():
    p = parameter(2, 2)
    with pytest.raises(RunError, match="a parameter is in two groups of the system"):
        Spec("optimizer", "sgd").build().build([group(p), group(p)])


def test_moments_are_loaded_in_the_order_of_memory_of_their_parameter(tmp_path):
    """Filters whose channels lie last have such moments too: fused kernels walk through both at once, and would mix up places."""
    from tacit.training.state import load_optimizer, of_optimizer

    system = torch.nn.Conv2d(4, 6, 3)
    plain = torch.optim.AdamW(system.parameters(), lr=0.1)
    system(torch.randn(2, 4, 8, 8)).square().sum().backward()
    plain.step()
    memory = {name: dict(values) for name, values in of_optimizer(plain, system).items()}
    system.weight.data = system.weight.data.contiguous(memory_format=torch.channels_last)
    again = torch.optim.AdamW(system.parameters(), lr=0.1)
    load_optimizer(again, system, memory, tmp_path)
    moment = again.state[system.weight]["exp_avg"]
    assert moment.stride() == system.weight.stride() and torch.equal(moment, memory["weight"]["exp_avg"])
