"""The laws of an objective."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tacit.core.laws.case import Case

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["check_objective"]

_KINDS = ("per-sample", "global", "gather")


def check_objective(
    factory: Callable[[], Any], *, n: int = 8, d: int = 6, exact_gradient: bool = True, compiles: bool = False
) -> None:
    """Check an objective class, or a function without arguments that makes one.

    It must be a module that declares `ranks_kind`; return named scalar terms with 'loss'; be finite with finite gradients, also
    for equal views and for constant embeddings; not depend on the order of samples; leave its input alone; compute in
    float32 under autocast; restore from its state; refuse or survive one sample; and on two ranks give the loss
    and the gradient of one process on the joined batch, by the exchange it declares.

    n, d: samples and width of the random embeddings, n even. exact_gradient: compare with finite differences; False for
    criteria that stop gradients. compiles: also trace it without a graph break, which takes seconds.
    """
    import torch

    case = Case(factory)
    with torch.random.fork_rng(devices=[]), case.during("runs"):
        objective = factory()
        case.need(isinstance(objective, torch.nn.Module), "is a module", f"{type(objective).__name__} is no nn.Module")
        kind = getattr(objective, "ranks_kind", None)
        case.need(kind in _KINDS, "declares ranks_kind", f"ranks_kind is {kind!r}, not one of {', '.join(_KINDS)}")
        a, b = torch.randn(2, n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        value, before = _value_of(objective), torch.stack([a, b])
        _check_terms(case, objective, a, b)
        same = torch.equal(before, torch.stack([a, b]))
        case.need(same, "leaves its input alone", "the embeddings were changed")
        _check_purity(case, value, a, b)
        _check_gradient(case, value, a, b, exact_gradient)
        _check_precision(case, value, a, b)
        _check_one(case, value, a[:1], b[:1])
        _check_state(case, factory, objective, a, b)
        _check_ranks(case, value, str(kind), a, b)
        if compiles:
            with case.during("compiles"):
                traced = _value_of(torch.compile(objective, backend="eager", fullgraph=True))(a, b)
            case.need(torch.allclose(traced, value(a, b)), "compiles", "the compiled loss differs")


def _value_of(objective: Any) -> Callable[..., Tensor]:
    import torch

    def value(a: Tensor, b: Tensor, **more: Any) -> Tensor:
        torch.manual_seed(0)  # a criterion may draw, random directions say: the same draw at each call
        return objective(a, b, **more)["loss"]  # type: ignore[no-any-return]

    return value


def _check_terms(case: Case, objective: Any, a: Tensor, b: Tensor) -> None:
    import torch

    terms = objective(a, b)
    case.need(isinstance(terms, dict) and "loss" in terms, "named terms", "it must return a dict with the entry 'loss'")
    for name, term in terms.items():
        scalar = isinstance(term, torch.Tensor) and term.shape == ()
        case.need(scalar, "named terms", f"{name!r} must be a tensor without axes, found {term!r}")
        case.need(term.dtype == a.dtype, "dtype", f"{name!r} is {term.dtype} for embeddings of {a.dtype}")
    one = torch.ones_like(a)
    for label, x, y in (("random", a, b), ("equal views of random", a, a), ("constant", one, one)):
        x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
        loss = objective(x, y)["loss"]
        case.need(loss.isfinite(), "finite", f"{label} embeddings give {loss.item()}")
        case.need(loss.requires_grad, "gradient", "none flows back to either view")
        loss.backward()
        finite = all(z.grad is None or bool(z.grad.isfinite().all()) for z in (x, y))
        case.need(finite, "finite gradient", f"{label} embeddings give a gradient that is not finite")


def _check_purity(case: Case, value: Callable[..., Tensor], a: Tensor, b: Tensor) -> None:
    import torch

    first, again = value(a, b), value(a, b)
    case.need(torch.equal(first, again), "repeatable", f"{first.item()} and then {again.item()} for the same input")
    order = torch.randperm(len(a), generator=torch.Generator().manual_seed(1))
    moved = value(a[order], b[order])
    same = torch.allclose(first, moved, rtol=1e-9, atol=1e-12)
    case.need(same, "order of samples", f"{first.item()} became {moved.item()} when both views were permuted alike")


def _check_gradient(case: Case, value: Callable[..., Tensor], a: Tensor, b: Tensor, exact: bool) -> None:
    import torch

    x, y = a.clone().requires_grad_(), b.clone().requires_grad_()
    slopes = torch.autograd.grad(value(x, y), (x, y), allow_unused=True, materialize_grads=True)
    case.need(any(bool(slope.any()) for slope in slopes), "gradient", "it is zero for random embeddings")
    if not exact:
        return
    u, v = torch.randn(2, *a.shape, dtype=a.dtype, generator=torch.Generator().manual_seed(2))
    step = 1e-5
    measured = (value(a + step * u, b + step * v) - value(a - step * u, b - step * v)) / (2 * step)
    claimed = (slopes[0] * u).sum() + (slopes[1] * v).sum()
    case.need(
        torch.allclose(claimed, measured, rtol=1e-5, atol=1e-7),
        "gradient",
        f"along a random direction autograd says {claimed.item():.6g} and finite differences {measured.item():.6g} "
        "(pass exact_gradient=False if it stops gradients on purpose)",
    )


def _check_precision(case: Case, value: Callable[..., Tensor], a: Tensor, b: Tensor) -> None:
    import torch

    law, x, y = "float32 under autocast", a.float(), b.float()
    plain = value(x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under, half = value(x, y), value(x.bfloat16(), y.bfloat16())
    types = f"the loss is {under.dtype}, and {half.dtype} for bfloat16 embeddings"
    case.need(under.dtype == half.dtype == torch.float32, law, types)
    same = torch.allclose(plain, under, rtol=1e-5, atol=1e-6)
    case.need(same, law, f"{plain.item()} became {under.item()}: compute inside torch.autocast(..., enabled=False)")


def _check_one(case: Case, value: Callable[..., Tensor], a: Tensor, b: Tensor) -> None:
    try:
        loss = value(a, b)
    except ValueError:  # refused in words, as it should be
        return
    case.need(loss.isfinite(), "one sample", f"a batch of one gives {loss.item()}: refuse it with a ValueError")


def _check_state(case: Case, factory: Callable[[], Any], objective: Any, a: Tensor, b: Tensor) -> None:
    import copy

    import torch

    state = copy.deepcopy(objective.state_dict())
    expected, other = _value_of(objective)(a, b), factory()
    with case.during("state round trip"):
        other.load_state_dict(state)
    same = torch.equal(expected, _value_of(other)(a, b))
    case.need(same, "state round trip", "a second one with the same state gives another loss")


class _Exchange:
    """Two ranks as two threads of one process: their exchanges join one autograd graph, so that the gradient of the mean
    loss is what averaging over processes gives. One thread computes at a time, so that draws do not mix."""

    def __init__(self) -> None:
        self.turn, self.meeting = threading.Lock(), threading.Barrier(2, timeout=5)
        self.given: dict[tuple[int, int], Tensor] = {}
        self.calls = {"total": 0, "gather": 0}

    def ranks(self, rank: int) -> Any:
        import torch

        from tacit.core.ranks import Ranks

        count = 0

        def exchange(x: Tensor, what: str) -> tuple[Tensor, Tensor]:
            nonlocal count
            self.given[count, rank] = x
            self.calls[what] += 1
            self.turn.release()
            try:
                self.meeting.wait()
            finally:
                self.turn.acquire()
            count += 1
            return self.given[count - 1, 0], self.given[count - 1, 1]

        def total(x: Tensor) -> Tensor:
            return torch.stack(exchange(x, "total")).sum(dim=0)

        def gather(x: Tensor) -> Tensor:
            return torch.cat(exchange(x, "gather"))

        return Ranks(2, rank, total, gather)

    def run(self, rank: int, value: Callable[..., Tensor], a: Tensor, b: Tensor) -> Tensor:
        with self.turn:
            try:
                return value(a, b, ranks=self.ranks(rank))
            except BaseException:
                self.meeting.abort()
                raise


def _check_ranks(case: Case, value: Callable[..., Tensor], kind: str, a: Tensor, b: Tensor) -> None:
    import torch

    x, y = a.clone().requires_grad_(), b.clone().requires_grad_()
    whole = value(x, y)
    expected = torch.autograd.grad(whole, (x, y), allow_unused=True, materialize_grads=True)
    exchange = _Exchange()
    with case.during("two ranks"), ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(exchange.run, rank, value, *views)
            for rank, views in enumerate(zip(x.chunk(2), y.chunk(2), strict=True))
        ]
        losses = torch.stack([job.result() for job in jobs])
        found = torch.autograd.grad(losses.mean(), (x, y), allow_unused=True, materialize_grads=True)
    mean = losses.mean().item()
    same = torch.allclose(losses.mean(), whole, rtol=1e-9, atol=1e-12)
    case.need(same, "two ranks", f"the loss is {mean} on average and {whole.item()} in one process")
    for one, two in zip(expected, found, strict=True):
        gap, size = (one - two).norm().item(), one.norm().item()
        found_gap = f"the averaged gradient is off by {gap:.2g}, of one process's {size:.2g}"
        case.need(gap <= 1e-9 * size + 1e-12, "two ranks", found_gap)
    uses = {"global": "total", "gather": "gather"}.get(kind)
    case.need(uses is None or exchange.calls[uses], "declares ranks_kind", f"{kind!r}, but it never calls ranks.{uses}")
