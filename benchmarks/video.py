"""Masked prediction of clips beside others' code, on one machine in one run.

    python benchmarks/video.py [--peer FOLDER] [--rounds 5] [--threads 1] [--only step] [--json FILE]

forward: the encoder of V-JEPA 2 in evaluation mode beside transformers' VJEPA2 with the same weights.
With --peer, a checkout of github.com/facebookresearch/jepa or vjepa2 (its folder `src` is imported, nothing of it is copied; of jepa the
step alone is compared):
step: a pre-training step (averaged encoder, two context passes, predictor, L1, AdamW, averaging) on the same clips and masks.
masks: drawing the masks of 24 clips of 16 frames at 256 pixels. grid: training steps of 20 attentive probes on the tokens of a store,
beside 20 of theirs, with one cross-attention (depth 1, 32 clips) and with three self-attention blocks before it (depth 4, 8 clips).

In each round the sides take turns a, b, b, a; a round gives one ratio of processor time (wall time with several threads), and the
median over the rounds is printed with the lowest and the highest. A ratio above 1 means that tacit is faster.
"""

from __future__ import annotations

import argparse
import copy
import functools
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from tacit.core.spec import Spec
from tacit.core.values import Facts
from tacit.models import editions
from tacit.models.attentive_grid import AttentiveGrid
from tacit.models.editions import Edition, Parts, system_spec
from tacit.models.token_store import TokenStore

SIZE = {"width": 384, "depth": 6, "heads": 6, "mlp_ratio": 4.0}
SMALL = {"width": 192, "depth": 4, "heads": 6}
EDITION = Edition("vjepa2", "benchmark", 128, SIZE, SMALL, frames=8, tokens=10)
CLIPS = 2


def ratio(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> dict[str, float]:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter

    def took(work: Callable[[], object]) -> float:
        start = clock()
        work()
        return clock() - start

    ours(), theirs()
    found, best = [], [float("inf")] * 2
    for _ in range(rounds):
        a, b, b2, a2 = took(ours), took(theirs), took(theirs), took(ours)
        found.append((b + b2) / (a + a2))
        best = [min(best[0], a, a2), min(best[1], b, b2)]
    return {
        "ratio": statistics.median(found), "low": min(found), "high": max(found), "ours_ms": 1e3 * best[0], "theirs_ms": 1e3 * best[1],
    }  # fmt: skip


def system(edition: Edition = EDITION) -> torch.nn.Module:
    torch.manual_seed(0)
    return system_spec(edition).build(editions.encoder_facts(edition))


def forward(rounds: int) -> dict[str, float]:
    from transformers import VJEPA2Model

    from tacit.models.editions_hub import write_hub

    ours = system().eval()
    state = ours.state_dict()
    under = {p: {k.removeprefix(p): v for k, v in state.items() if k.startswith(p)} for p in ("encoder.", "predictor.")}
    with tempfile.TemporaryDirectory() as folder:
        write_hub(Parts(EDITION, under["encoder."], None, under["predictor."]), folder)
        theirs = VJEPA2Model.from_pretrained(folder, attn_implementation="sdpa").eval()
    clip = torch.randn(CLIPS, 3, 8, 128, 128)
    turned = clip.transpose(1, 2).contiguous()
    with torch.no_grad():
        gap = (ours.encoder(clip).tokens - theirs(turned, skip_predictor=True).last_hidden_state).abs().max()
        found = ratio(lambda: ours.encoder(clip), lambda: theirs(turned, skip_predictor=True), rounds)
    return {**found, "gap": float(gap)}


def masks_of(ids: torch.Tensor, pixels: int, frames: int) -> dict[str, torch.Tensor]:
    kinds = [
        Spec("mask", "multi-block-3d", blocks=b, scale=(s, s), compat="official") for b, s in ((8, 0.15), (2, 0.7))
    ]
    views = Spec(
        "views",
        "context-target",
        view=Spec("view", "clip", size=pixels),
        masks=tuple(kinds),
        patch=16,
        tubelet=2,
        truncate="first",
    )
    return views.resolve().build(Facts(channels=3, shape=(frames, pixels, pixels))).masks(ids, 0, 0)


def step(rounds: int) -> dict[str, float]:
    from src.models.predictor import VisionTransformerPredictor
    from src.models.vision_transformer import VisionTransformer

    second = importlib.util.find_spec("src.utils.wrappers") is not None  # V-JEPA 2, whose networks take lists of lists
    if second:
        from src.utils.wrappers import MultiSeqWrapper as Several
        from src.utils.wrappers import PredictorMultiSeqWrapper as SeveralPredicted
    else:
        from src.models.utils.multimask import MultiMaskWrapper as Several
        from src.models.utils.multimask import PredictorMultiMaskWrapper as SeveralPredicted

    edition = EDITION if second else replace(EDITION, family="vjepa", tokens=2)
    ours = system(edition)
    shape = {
        "img_size": (128, 128) if second else 128, "patch_size": 16, "num_frames": 8, "tubelet_size": 2,
        "norm_layer": functools.partial(torch.nn.LayerNorm, eps=1e-6), **({"use_rope": True} if second else {}),
    }  # fmt: skip
    encoder = Several(
        VisionTransformer(
            embed_dim=SIZE["width"], depth=SIZE["depth"], num_heads=SIZE["heads"], uniform_power=True, **shape
        )
    )
    predictor = SeveralPredicted(
        VisionTransformerPredictor(
            embed_dim=SIZE["width"], predictor_embed_dim=SMALL["width"], depth=SMALL["depth"], num_heads=SMALL["heads"],
            use_mask_tokens=True, num_mask_tokens=edition.tokens, uniform_power=True, **shape,
        )
    )  # fmt: skip
    state = ours.state_dict()
    parts = Parts(
        edition,
        *(
            {k.removeprefix(p): v.clone() for k, v in state.items() if k.startswith(p)}
            for p in ("encoder.", "encoder.", "predictor.")
        ),
    )
    content = editions.to_official(parts)
    for module, entry in ((encoder, "encoder"), (predictor, "predictor")):
        module.load_state_dict(
            {name.removeprefix("module."): value for name, value in content[entry].items()}, strict=False
        )
    teacher = copy.deepcopy(encoder).requires_grad_(False)
    clip, how = torch.randn(CLIPS, 3, 8, 128, 128), masks_of(torch.arange(CLIPS), 128, 8)
    context, target = ([how[f"{kind}.{i}"] for i in (0, 1)] for kind in ("context", "target"))
    target = [at[:, 0] for at in target]

    def groups(*modules: torch.nn.Module) -> list[dict]:
        named = [(name, p) for module in modules for name, p in module.named_parameters() if p.requires_grad]
        plain = [p for name, p in named if "bias" in name or p.ndim == 1]
        return [
            {"params": [p for name, p in named if not ("bias" in name or p.ndim == 1)], "weight_decay": 0.04},
            {"params": plain, "weight_decay": 0.0},
        ]

    theirs_optim = torch.optim.AdamW(groups(encoder, predictor), lr=1e-4)
    ours_optim = Spec("optimizer", "adamw", lr=1e-4, weight_decay=0.04).resolve().build().build(ours.groups())

    def theirs() -> torch.Tensor:
        with torch.no_grad():
            h = teacher([clip])[0] if second else teacher(clip)
            h = F.layer_norm(h, (h.size(-1),))
            wanted = [h.gather(1, at[:, :, None].expand(-1, -1, h.shape[2])) for at in target]
        if second:
            z = predictor(encoder([clip], [context]), [context], [target])[0]
        else:
            z = predictor(encoder(clip, context), wanted, context, target)
        loss = sum((a - b).abs().mean() for a, b in zip(z, wanted, strict=True)) / 2
        loss.backward()
        theirs_optim.step()
        theirs_optim.zero_grad()
        with torch.no_grad():
            for q, k in zip(encoder.parameters(), teacher.parameters(), strict=True):
                k.data.mul_(0.99925).add_((1 - 0.99925) * q.detach().data)
        return loss.detach()

    from tacit.core.values import Batch, View

    batch = Batch({"image": View(clip, how)}, torch.arange(CLIPS))

    def mine() -> torch.Tensor:
        loss = ours(batch, 0.0)["loss"]
        loss.backward()
        ours_optim.step()
        ours_optim.zero_grad()
        ours.after_step(0.0)
        return loss.detach()

    gap = max(abs(float(mine() - theirs())) for _ in range(3))
    return {**ratio(mine, theirs, rounds), "loss_gap_over_3_steps": gap}


def masks(rounds: int) -> dict[str, float]:
    from src.masks.multiseq_multiblock3d import _MaskGenerator

    def kind(blocks: int, scale: float) -> object:
        return _MaskGenerator(
            crop_size=(256, 256), num_frames=16, spatial_patch_size=(16, 16), spatial_pred_mask_scale=(scale, scale),
            temporal_pred_mask_scale=(1.0, 1.0), aspect_ratio=(0.75, 1.5), npred=blocks,
        )  # fmt: skip

    theirs = [kind(8, 0.15), kind(2, 0.7)]
    return ratio(lambda: masks_of(torch.arange(24), 256, 16), lambda: [one(24) for one in theirs], rounds)


def grid(rounds: int, depth: int) -> dict[str, float]:
    """Steps of 20 probes on tokens of a store: read, forward, backward, AdamW. Ours reads them once a step."""
    from src.models.attentive_pooler import AttentiveClassifier

    torch.manual_seed(0)
    clips = 32 if depth == 1 else 8
    rows, y = np.arange(clips), torch.randint(0, 10, (clips,))
    with tempfile.TemporaryDirectory() as folder:
        store = TokenStore.written(Path(folder) / "tokens", clips, iter([torch.randn(clips, 256, 192)]))
        ours = AttentiveGrid(192, 10, heads=4, depth=depth)
        theirs = [AttentiveClassifier(embed_dim=192, num_heads=4, depth=depth, num_classes=10) for _ in range(20)]
        steps = [
            torch.optim.AdamW(one.parameters(), lr=rate, weight_decay=decay)
            for one, (rate, decay) in zip(theirs, ours.settings, strict=True)
        ]

        def together() -> None:
            ours.learn(store.rows(rows), y)
            ours.step(0.5)

        def separate() -> None:
            for one, step in zip(theirs, steps, strict=True):
                F.cross_entropy(one(store.rows(rows)), y).backward()
                step.step()
                step.zero_grad()

        return ratio(together, separate, rounds)


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--peer", type=Path)
    reader.add_argument("--rounds", type=int, default=5)
    reader.add_argument("--threads", type=int, default=1)
    reader.add_argument("--only", default="", help="a part of the name of what is measured")
    reader.add_argument("--json", type=Path)
    given = reader.parse_args()
    torch.set_num_threads(given.threads)
    works: dict[str, Callable[[int], dict[str, float]]] = {"forward beside transformers": forward}
    if given.peer:
        sys.path.insert(0, str(given.peer))
        works["step"] = step
    if given.peer and (given.peer / "src/masks/multiseq_multiblock3d.py").exists():
        works |= {
            "masks": masks,
            "20 probes of depth 1": functools.partial(grid, depth=1),
            "20 probes of depth 4": lambda rounds: grid(max(1, rounds // 2), 4),
        }
    found = {name: work(given.rounds) for name, work in works.items() if given.only in name}
    for name, one in found.items():
        rest = ", ".join(f"{key} {value:.2g}" for key, value in one.items() if "gap" in key)
        print(f"{name}: {one['ratio']:.2f} times ({one['low']:.2f} to {one['high']:.2f}), {one['ours_ms']:.0f} ms, theirs "
              f"{one['theirs_ms']:.0f} ms {rest}")  # fmt: skip
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
