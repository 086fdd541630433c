"""Two Rooms and the planners, beside the public codes where a checkout of them is given.

    python benchmarks/planning.py transitions samples rollouts replan problems shared
    python benchmarks/planning.py true --episodes 10
    python benchmarks/planning.py --eb-jepa CHECKOUT --stable-worldmodel CHECKOUT --json

transitions: steps of the environment per second; samples: complete training clips, rendered and normalised; rollouts: one iteration
of CEM's roll-outs through the same GRU (200 samples, horizon 90); replan: encoding and one iteration of a plan, and whole plans; problems:
twenty plans at once; shared: a transformer's roll-outs from three seen frames, computed once or for every sample;
true: success of CEM with the true dynamics under two costs. Weights are random: nothing here needs a trained
model. One thread unless --threads says otherwise; medians of interleaved repeats. Peers need einops, gymnasium and scipy.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tacit.core.values import Facts
from tacit.models.gru import GRU
from tacit.planning import CEM, Agent, Bounds, goal_energy, squared
from tacit.recipes import find
from tacit.runs.planning import PlanSettings
from tacit.training.runtime import narrowed
from tacit.worlds.rooms import Rooms, baselines, normalise, path_length, play, random_tasks, roll
from tacit.worlds.rooms.draws import keys
from tacit.worlds.rooms.source import RoomClips

Runs = dict[str, tuple[Callable[[], object], float]]  # name -> (call, how many things one call makes)
SAMPLES, ELITES, HORIZON = 200, 20, 90


def bare(package: str, root: Path) -> None:
    """Make the modules of a checkout importable without running the package's own __init__."""
    path = root
    for depth, name in enumerate(package.split(".")):
        path = path / name
        module = types.ModuleType(".".join(package.split(".")[: depth + 1]))
        module.__path__ = [str(path)]
        sys.modules.setdefault(module.__name__, module)


def measure(runs: Runs, repeats: int) -> dict[str, float]:
    """Things per second, the median of interleaved repeats after one unmeasured call."""
    for call, _ in runs.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, (call, _) in runs.items():
            clock = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - clock)
    return {name: runs[name][1] / statistics.median(values) for name, values in seconds.items()}


def eb_config(**changes):
    config = importlib.import_module("eb_jepa.datasets.two_rooms.wall_dataset").WallDatasetConfig
    given = {
        "action_angle_noise": 0.2, "img_size": 65, "fix_wall": False, "cross_wall_rate": 0.35, "n_steps": 91, "device": "cpu",
    }  # fmt: skip
    return config(**{**given, **changes})


def transitions(args) -> Runs:
    n = args.worlds
    worlds = Rooms(random_tasks(keys(torch.arange(n), 0, "bench")))
    action = 2 * torch.rand(16, n, 2) - 1

    def ours(picture: bool) -> None:
        for step in action:
            worlds.step(step)
            if picture:
                worlds.picture()

    runs: Runs = {
        f"tacit, {n} worlds": (lambda: ours(False), 16 * n),
        f"tacit, {n} worlds, with pictures": (lambda: ours(True), 16 * n),
    }
    from tacit.worlds.rooms.env import RoomsEnv

    env = RoomsEnv()
    env.reset(seed=0)
    moves = action[:, 0].numpy()
    runs["tacit's gymnasium environment"] = (lambda: [env.step(a) for a in moves], 16)
    if args.eb_jepa:
        peer = importlib.import_module("eb_jepa.datasets.two_rooms.env").DotWall(eb_config())
        peer.reset()
        runs["eb_jepa's environment"] = (lambda: [peer.step(a) for a in moves], 16)
        tensors = torch.from_numpy(moves)
        runs["eb_jepa's environment, position alone"] = (
            lambda: [setattr(peer, "dot_position", peer._calculate_next_position(a)) for a in tensors], 16,
        )  # fmt: skip
    return runs


def samples(args) -> Runs:
    source, batch = RoomClips(), 64
    runs: Runs = {
        f"tacit, batches of {batch}": (
            lambda: normalise(source.read(range(batch)).views["image"].data.transpose(1, 2)), batch,
        )
    }  # fmt: skip
    if args.eb_jepa:
        peer = importlib.import_module("eb_jepa.datasets.two_rooms.wall_dataset").WallDataset(eb_config())
        runs["eb_jepa's data set"] = (lambda: [peer[i] for i in range(8)], 8)
    return runs


class Predictor(GRU):
    """h' = LayerNorm(GRU(a, h)), as `WorldModel.imagine` goes on a processor: step by step."""

    def __init__(self, width: int, actions: int = 2) -> None:
        super().__init__(width, actions)
        self.final_ln = nn.LayerNorm(width)

    def forward(self, state, actions, last: bool = True):
        states = []
        for action in actions.transpose(0, 1):
            state = self.final_ln(self.step(state, action))
            states.append(state)
        return state.unsqueeze(1) if last else torch.stack(states, 1)


class Plain(Predictor):
    """The same with torch's own cell, which is what a model of the public codes calls."""

    def step(self, state, action):
        return self.rnn(action.unsqueeze(0), state.unsqueeze(0))[0][0]


def eb_model():
    """eb_jepa's encoder and predictor with random weights, as its Two Rooms example builds them."""
    nets, jepa = (importlib.import_module(f"eb_jepa.{name}") for name in ("architectures", "jepa"))
    encoder = nets.ImpalaEncoder()
    predictor = nets.RNNPredictor(hidden_size=512, final_ln=encoder.final_ln)
    return jepa.JEPA(encoder, nn.Identity(), predictor, None, None).eval()


def rollouts(args) -> Runs:
    torch.manual_seed(0)
    model, state, goal = Predictor(512).eval(), torch.randn(1, 512), torch.randn(1, 512)
    actions = torch.randn(SAMPLES, HORIZON, 2)

    def ours(precision):
        with torch.no_grad():
            imagine = narrowed(model, torch.device("cpu"), precision)
            return squared(imagine(state.expand(SAMPLES, -1), actions), goal.unsqueeze(1))[:, 0]

    runs: Runs = {f"tacit, {name}": (lambda name=name: ours(name), 1) for name in ("fp32", "bf16")}
    if args.eb_jepa:
        peer = eb_model()
        peer.predictor.load_state_dict(model.state_dict())
        peer.encoder = nn.Identity()  # the roll-outs alone

        def theirs():
            with torch.no_grad():
                rows = state.repeat(SAMPLES, 1)[:, :, None, None, None]
                seen, _ = peer.unroll(
                    rows, actions.transpose(1, 2), nsteps=HORIZON, unroll_mode="autoregressive", compute_loss=False
                )
                return (seen[:, :, -1, 0, 0] - goal).square().mean(1)

        found, known = ours("fp32"), theirs()
        gap = (found - known).abs()
        print(f"largest difference of the costs: {gap.max().item():.1e}, {(gap / known).max().item():.1e} of a cost")
        runs["eb_jepa's unroll"] = (theirs, 1)
    return runs


def replan(args) -> Runs:
    """Plans with the encoder inside: one iteration alike on both sides, then whole plans, each by its own settings.

    The public planner encodes one copy of the picture for each sample, again in every iteration, and begins each plan anew: 20
    iterations of 200 samples over 90 steps. `tacit plan` encodes once and begins from the last plan: iCEM, 4 iterations of 100 over 30.
    """
    if not args.eb_jepa:
        print("replan: needs --eb-jepa for the encoder")
        return {}
    peer = eb_model()
    model = Predictor(512).eval()
    model.load_state_dict(peer.predictor.state_dict())
    picture = normalise(Rooms(random_tasks(keys(torch.arange(1), 0, "bench"))).picture())
    goal = torch.randn(1, 512)

    def see(observation):
        with torch.no_grad():
            return goal_energy(model, peer.encoder(observation.unsqueeze(2)).flatten(1), goal)

    alike = CEM(samples=SAMPLES, elites=ELITES, iterations=1, spread=1.5, norm=2.45)
    one = Agent(alike, see, width=2, horizon=HORIZON)
    whole = Agent(PlanSettings().planner.build(Bounds().within(2.45)), see, width=2, horizon=PlanSettings().horizon)

    def theirs(iterations: int):
        with torch.no_grad():
            mean, std = torch.zeros(HORIZON, 1, 2), torch.full((HORIZON, 1, 2), 1.5)
            for _ in range(iterations):
                actions = mean + std * torch.randn(HORIZON, SAMPLES, 2)
                actions = actions * (2.45 / actions.norm(dim=-1, keepdim=True).clamp_min(2.45))
                rows = picture.unsqueeze(2).repeat(SAMPLES, 1, 1, 1, 1)
                seen, _ = peer.unroll(
                    rows, actions.permute(1, 2, 0), nsteps=HORIZON, unroll_mode="autoregressive", compute_loss=False
                )
                cost = (seen[:, :, -1, 0, 0] - goal).square().mean(1)
                elite = actions[:, torch.topk(-cost, ELITES).indices]
                mean, std = elite.mean(1, keepdim=True), elite.std(1, keepdim=True)
            return mean

    return {
        "tacit, encode and one iteration": (lambda: one.act(picture), 1),
        "eb_jepa's way": (lambda: theirs(1), 1),
        "tacit, a whole plan": (lambda: whole.act(picture), 1),
        "eb_jepa's way, a whole plan": (lambda: theirs(20), 1),
    }


def shared(args) -> Runs:
    """A transformer world model of three frames rolled out from three seen ones: the past computed once, or once a sample."""
    from tacit.core.spec import Spec
    from tacit.systems.after_past import imagine_after

    torch.manual_seed(0)
    patch = Spec("encoder", "pixels", patch=8)
    world = Spec(
        "system", "world-model", encoder=patch, frozen=True, state="tokens", regulariser=None, inverse=None, similarity=0.0, norm="none",
        predictor=Spec("dynamics", "causal-transformer", depth=4, heads=6, hidden=768, dropout=0.0), steps=1, starts="every",
    )  # fmt: skip
    model = world.build(Facts(channels=3, shape=(4, 64, 64), action_dim=2)).eval()
    past, done = model.encode(torch.randn(1, 3, 3, 64, 64)), torch.randn(1, 2, 2)
    runs: Runs = {}
    for horizon in (1, 2, 5):
        actions = torch.randn(24, horizon, 2)

        def roll(share: bool, actions=actions):
            with torch.no_grad():
                return imagine_after(model, past, done, actions, share=share)

        gap = (roll(True) - roll(False)).abs().max().item()
        print(f"horizon {horizon}: largest difference of the states {gap:.1e}")
        runs[f"horizon {horizon}, past shared by 24 samples"] = (lambda roll=roll: roll(True), 24)
        runs[f"horizon {horizon}, past repeated"] = (lambda roll=roll: roll(False), 24)
    return runs


class Evaluated:
    """The cost object that stable-worldmodel's solvers ask for: costs [p k] of candidates [p k h a]."""

    def __init__(self, cost) -> None:
        self.cost = cost

    def get_cost(self, infos, candidates):
        p, k = candidates.shape[:2]
        state, goal = (infos[name].flatten(0, 1) for name in ("state", "goal"))
        return self.cost(state, goal, candidates.flatten(0, 1)).view(p, k)


def transformer(actions: int):
    """LeWM without its encoder: a causal transformer over three states of 192 numbers and the head after it."""
    model = find("worlds.lewm").system.build(Facts(channels=2, shape=(4, 65, 65), action_dim=actions)).eval()
    for block in model.predictor.blocks:  # which begin as the identity
        nn.init.normal_(block.modulate[1].weight, std=0.05)
    return model


def lewm(model, checkout: Path):
    """The states that stable-worldmodel's LeWM imagines with the same weights. Its blocks normalise twice, here once as ours do."""
    bare("stable_worldmodel.wm.lewm", checkout)
    nets, module = (importlib.import_module(f"stable_worldmodel.wm.lewm.{name}") for name in ("lewm", "module"))
    ours, d = model.predictor, model.dim
    peer = module.Predictor(
        num_frames=3, depth=6, heads=16, mlp_dim=2048, input_dim=d, hidden_dim=d, output_dim=d, dim_head=64
    )
    peer.pos_embedding.data = ours.positions.data.transpose(0, 1)
    peer.transformer.norm = ours.norm
    for block, own in zip(peer.transformer.layers, ours.blocks, strict=True):
        block.attn.norm, block.attn.to_qkv, block.attn.to_out = nn.Identity(), own.qkv, own.out
        block.norm1, block.norm2, block.adaLN_modulation = own.norm1, own.norm2, own.modulate
        block.mlp.net = own.mlp
    whole = nets.LeWM(nn.Identity(), peer, ours.action, pred_proj=model.after).eval()

    def imagine(states, actions):
        seen = states[None, :, None]
        return whole.rollout({"pixels": seen, "emb": seen}, actions[None])["predicted_emb"][0, :, 1:]

    return imagine


def problems(args) -> Runs:
    """Twenty problems of 300 samples over 5 steps: a small GRU, that of Two Rooms, and LeWM's transformer."""
    runs: Runs = {}
    for name, width, actions, iterations in (("GRU 64", 64, 10, 30), ("GRU 512", 512, 2, 5), ("LeWM", 192, 10, 1)):
        runs |= {f"{name}: {label}": run for label, run in twenty(name, width, actions, iterations, args).items()}
    return runs


def twenty(name: str, width: int, actions: int, iterations: int, args) -> Runs:
    torch.manual_seed(0)
    count, horizon = 20, 5
    gru = name.startswith("GRU")
    model: nn.Module = Predictor(width, actions).eval() if gru else transformer(actions)
    imagine = model if gru else model.imagine
    state, goal = torch.randn(count, width), torch.randn(count, width)
    planner, start = CEM(iterations=iterations), torch.zeros(count, horizon, actions)
    rng = torch.Generator().manual_seed(0)

    def one_by_one():
        for k in range(count):
            planner.plan(goal_energy(imagine, state[k : k + 1], goal[k : k + 1]), start[k], rng)

    def at_once(precision):
        narrow = narrowed(imagine, torch.device("cpu"), precision)
        planner.plan(goal_energy(narrow, state, goal), start, rng)

    runs: Runs = {
        "tacit, 20 at once": (lambda: at_once("fp32"), count),
        "tacit, 20 at once, bf16": (lambda: at_once("bf16"), count),
        "tacit, one by one": (one_by_one, count),
    }
    if not args.stable_worldmodel:
        return runs
    import gymnasium

    solver = importlib.import_module("stable_worldmodel.planning.solver.cem").CEMSolver
    if gru:
        plain = Plain(width, actions).eval()
        plain.load_state_dict(model.state_dict())
        peers = {"torch's cell": plain, "our cell": model}
    else:
        peers = {"its LeWM": lewm(model, args.stable_worldmodel)}
    tried = torch.randn(8, horizon, actions)
    ours = imagine(state[:8], tried)[:, -1]
    for kind, other in peers.items():
        with torch.no_grad():
            gap = (other(state[:8], tried)[:, -1] - ours).abs().max().item()
        print(f"{name}, {kind}: largest difference of the states {gap:.1e}")
        cost = Evaluated(lambda s, g, a, other=other: squared(other(s, a)[:, -1:], g.unsqueeze(1))[:, 0])
        for batch in (1, count):
            peer = solver(cost, batch_size=batch, n_steps=iterations)
            space = gymnasium.spaces.Box(-1, 1, (count, actions), np.float32)
            peer.configure(
                action_space=space, n_envs=count, config=types.SimpleNamespace(horizon=horizon, action_block=1)
            )

            def theirs(peer=peer):
                with contextlib.redirect_stdout(io.StringIO()):
                    return peer.solve({"state": state, "goal": goal})

            runs[f"stable-worldmodel, {kind}, batch_size={batch}"] = (theirs, count)
    return runs


def true(args) -> None:
    """The optimiser and the cost without a model: what is left is not the model's fault."""
    tasks = random_tasks(keys(torch.arange(args.episodes), 0, "true"))
    for card in baselines(tasks).values():
        print(card)
    planner = CEM(samples=SAMPLES, elites=ELITES, iterations=args.iterations, spread=1.5, norm=2.45)
    for name, distance in (("straight distance", None), ("path through the door", path_length)):

        def see(worlds, distance=distance):
            def cost(actions):
                samples = len(actions) // len(tasks)
                layouts = tasks.layouts.repeat(samples)
                goal = tasks.goal.repeat_interleave(samples, 0)
                last = roll(worlds.position.repeat_interleave(samples, 0), actions, layouts)[:, -1]
                if distance is None:
                    return (last - goal).square().mean(1)
                return distance(last, goal, layouts).square()

            return cost

        agent = Agent(planner, see, width=2, horizon=HORIZON, problems=len(tasks), warm=False, execute=args.execute)
        clock = time.perf_counter()
        outcome = play(tasks, lambda worlds, agent=agent: agent.act(worlds, 200 - worlds.steps))
        print(outcome.card(f"CEM, true dynamics, {name}"), f"{time.perf_counter() - clock:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {f.__name__: f for f in (transitions, samples, rollouts, replan, problems, shared)}
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(parts)}, true; default: all but true")
    parser.add_argument("--eb-jepa", type=Path, help="a checkout of facebookresearch/eb_jepa")
    parser.add_argument("--stable-worldmodel", type=Path, help="a checkout of galilai-group/stable-worldmodel")
    parser.add_argument("--worlds", type=int, default=4096)
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--execute", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.eb_jepa:
        bare("eb_jepa.datasets.two_rooms", args.eb_jepa)
    if args.stable_worldmodel:
        bare("stable_worldmodel.planning.solver", args.stable_worldmodel)
    found = {}
    for name in args.parts or parts:
        if name == "true":
            true(args)
            continue
        rates = measure(parts[name](args), args.repeats)
        found[name] = rates
        if not args.json:
            first = next(iter(rates.values()), 0.0)
            for label, rate in rates.items():
                print(f"{name:12s} {label:52s} {rate:12.4g} /s   {first / rate:8.2f}")
    if args.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
