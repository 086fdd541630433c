"""Action-conditioned roll-outs that compute the shared context once, beside those that compute everything for every sequence.

    python benchmarks/rollouts.py --rounds 5
    python benchmarks/rollouts.py --width 256 --depth 6 --samples 32 --device cuda

One iteration of CEM on one problem: `samples` sequences of `horizon` actions from a context of `frames` frames. The plain side does
what the public code does: the whole sequence of frames, every sequence's own copy of the context, through the predictor again for every
step. Energies must agree to 1e-5. Weights are random; medians of interleaved rounds, one thread unless --threads says otherwise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch
from torch import Tensor

from tacit.core.spec import Spec
from tacit.core.values import Facts
from tacit.ops.pose import moved
from tacit.systems.action_conditioned import Seen

CASES = ((1, 1), (1, 2), (1, 4), (2, 2), (4, 2), (8, 2), (4, 4))  # frames of the context, horizon


def system(args) -> torch.nn.Module:
    torch.manual_seed(0)
    side = 8 * args.grid
    encoder = Spec("encoder", "vit", patch=8, width=args.features, depth=1, heads=1, pooling="mean", class_token=False)
    predictor = Spec("action-predictor", "block-causal", width=args.width, depth=args.depth, heads=args.width // 32)
    spec = Spec("system", "action-conditioned", encoder=encoder, predictor=predictor)
    return spec.build(Facts(channels=3, shape=(2, side, side), action_dim=7)).eval().to(args.device)


def plain(model, seen: Seen, goal: Tensor, actions: Tensor) -> Tensor:
    n = len(actions)
    z, given, states = (one.expand(n, *one.shape[1:]) for one in (seen.z, seen.actions, seen.states))
    for action in actions.unbind(1):
        given = torch.cat([given, action.unsqueeze(1)], 1)
        z = torch.cat([z, model._settled(model.predictor(z, given, states)[:, -1:])], 1)
        states = torch.cat([states, moved(states[:, -1], action).unsqueeze(1)], 1)
    return (z[:, -1] - goal).abs().mean((1, 2))


@torch.no_grad()
def case(model, args, frames: int, horizon: int) -> dict[str, float]:
    rng = torch.Generator().manual_seed(1)
    rand = lambda *shape: torch.randn(*shape, generator=rng).to(args.device)  # noqa: E731
    k, d = args.grid**2, args.features
    seen = Seen(rand(1, frames, k, d), rand(1, frames, 7), 0.1 * rand(1, frames - 1, 7))
    goal, actions = rand(1, k, d), 0.1 * rand(args.samples, horizon, 7)
    sides = {
        "ours": lambda: model.goal_energy(seen, goal, rows=args.samples)(actions),
        "plain": lambda: plain(model, seen, goal, actions),
    }
    found = {name: call() for name, call in sides.items()}
    gap = float((found["ours"] - found["plain"]).abs().max())
    if gap > 1e-5 and args.device == "cpu":
        raise SystemExit(f"energies differ by {gap}")
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, call in sides.items():
            clock = time.perf_counter()
            call()
            if args.device != "cpu":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - clock)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "context": frames, "horizon": horizon, **{f"{name}, s": value for name, value in median.items()},
        "times as fast": median["plain"] / median["ours"], "largest difference": gap,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {
        "width": 128,
        "depth": 4,
        "features": 128,
        "grid": 8,
        "samples": 32,
        "rounds": 5,
        "threads": 1,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = system(args)
    rows = [case(model, args, *one) for one in CASES]
    if args.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(
            "  ".join(
                f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
            )
        )


if __name__ == "__main__":
    main()
