"""Reading videos and what follows: decoding by codec and width, crop before float, packed against padded masks.

    python benchmarks/video_data.py [--only decode] [--rounds 3] [--widths 320 340] [--json FILE]

decode: 16 frames, every fourth, from the middle of a video of 5 s at 30 frames a second, 256 pixels high, key frames 2 s apart (generated:
noise that moves, so neither still nor typical); milliseconds of processor time for a returned frame, one thread, best of the rounds.
torchcodec needs FFmpeg's shared libraries where the loader finds them (LD_LIBRARY_PATH); without them its columns are empty.
transform: the view 'clip' of 16 frames of 256 x 340 to 224, cut out before anything becomes a float, beside the published order: in each
round all take their turn, medians over rounds.
packing: forward and backward of the context pass of masked prediction, 16 frames at 128 pixels, 24 clips, under the published masks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F

from tacit.core.spec import Spec
from tacit.core.values import Facts
from tacit.data.video_decoding import open_video, torchcodec_fault

CODECS = {"libx264": "mp4", "libvpx-vp9": "webm", "mpeg4": "mp4"}


def film(path: Path, codec: str, width: int, height: int = 256, frames: int = 150) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (height // 8 + 40, (width + frames) // 8 + 2, 3), dtype=np.uint8)
    wide = noise.repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", 1_000_000
        stream.options = {"g": "60"} | (
            {"deadline": "realtime", "cpu-used": "8"} if "vp9" in codec else {"preset": "veryfast"}
        )
        for i in range(frames):
            picture = np.ascontiguousarray(wide[i // 4 : i // 4 + height, i : i + width])
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return path


def best(work: Callable[[], object], rounds: int, *, warm: bool = True) -> float:
    if warm:
        work()
    found = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def decode(rounds: int, widths: list[int]) -> dict[str, dict[str, float]]:
    wanted, table = np.arange(70, 134, 4), {}
    with tempfile.TemporaryDirectory() as folder:
        for codec, ending in CODECS.items():
            for width in widths:
                path, row, seen = film(Path(folder) / f"a.{ending}", codec, width), {}, []
                for decoder in ("pyav", "torchcodec"):
                    if decoder == "torchcodec" and torchcodec_fault():
                        continue

                    def read(decoder: str = decoder, path: Path = path) -> torch.Tensor:
                        with open_video(path, decoder) as video:
                            return video.frames(wanted)

                    seen.append(read())
                    row[f"{decoder}_ms"] = 1e3 * best(read, rounds) / len(wanted)
                if len(seen) > 1:
                    row["largest_difference"] = float((seen[0].int() - seen[1].int()).abs().max())
                table[f"{codec} {width}x256"] = row
    return table


def transform(rounds: int) -> dict[str, float]:
    """Bytes as a decoder leaves them, ours [c f h w], the published [f h w c], to normalised clips [c f 224 224]."""
    frames = torch.randint(0, 256, (4, 16, 256, 340, 3), dtype=torch.uint8)
    clips = list(frames.permute(0, 4, 1, 2, 3).contiguous())
    view = (
        Spec("view", "clip", size=224).resolve().build(Facts(channels=3, mean=(0.5,) * 3, std=(0.25,) * 3, frames=16))
    )
    how = view(clips, torch.arange(4), 0, 0, 0).how

    def ours() -> torch.Tensor:
        return view.apply(clips, how)

    def after(inplace: bool) -> torch.Tensor:
        """Everything to float, then the crop; inplace: the order and the in-place normalisation of the published code, in [0, 255]."""
        out = []
        for at, (one, (top, left, h, w), flip) in enumerate(
            zip(frames, how["box"].tolist(), how["flip"].tolist(), strict=True)
        ):
            x = one.float().permute(3, 0, 1, 2) if inplace else clips[at].float() / 255
            x = F.interpolate(
                x[:, :, top : top + h, left : left + w], size=(224, 224), mode="bilinear", align_corners=False
            )
            x = x.flip(-1) if flip else x
            out.append(x.sub_(127.5).div_(63.75) if inplace else (x - 0.5) / 0.25)
        return torch.stack(out)

    works = {"ours": ours, "float_first": lambda: after(False), "published": lambda: after(True)}
    made = {name: work() for name, work in works.items()}
    turns = [{name: best(work, 1, warm=False) for name, work in works.items()} for _ in range(rounds)]
    found = {f"{name}_ms": 1e3 * statistics.median(turn[name] for turn in turns) / 4 for name in works}
    for name in ("float_first", "published"):
        ratios = [turn[name] / turn["ours"] for turn in turns]
        found |= {f"ratio_to_{name}": statistics.median(ratios), f"lowest_ratio_to_{name}": min(ratios)}
        found[f"largest_difference_to_{name}"] = float((made["ours"] - made[name]).abs().max())
    return found


def packing(rounds: int) -> dict[str, dict[str, float]]:
    facts, table = Facts(channels=3, shape=(16, 128, 128)), {}
    encoder = Spec(
        "encoder",
        "vit",
        patch=16,
        tubelet=2,
        width=384,
        depth=4,
        heads=6,
        pooling="mean",
        class_token=False,
        positions="rope",
    )
    torch.manual_seed(0)
    network = encoder.resolve().build(facts)
    clips = torch.randn(24, 3, 16, 128, 128)
    masks = tuple(Spec("mask", "multi-block-3d", blocks=b, scale=(s, s)) for b, s in ((8, 0.15), (2, 0.7)))
    for truncate in ("first", "none", "packed"):
        views = Spec(
            "views",
            "context-target",
            view=Spec("view", "clip", size=128),
            masks=masks,
            patch=16,
            tubelet=2,
            truncate=truncate,
        )
        how = views.resolve().build(facts).masks(torch.arange(24), 0, 0)
        for i, name in enumerate(("short", "long")):
            keep = how[f"context.{i}"]

            def step(keep: torch.Tensor = keep, truncate: str = truncate) -> None:
                tokens = network(clips, keep, padded=truncate != "first", packed=truncate == "packed").tokens
                tokens.square().mean().backward()

            table[f"{name} {truncate}"] = {
                "tokens": int((keep >= 0).sum()),
                "computed": keep.numel(),
                "ms": 1e3 * best(step, rounds),
            }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--widths", type=int, nargs="+", default=[320, 340])
    parser.add_argument("--only", choices=("decode", "transform", "packing"))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    parts = {"decode": lambda: decode(asked.rounds, asked.widths), "transform": lambda: transform(asked.rounds)}
    parts["packing"] = lambda: packing(asked.rounds)
    found = {name: part() for name, part in parts.items() if asked.only in (None, name)}
    print(json.dumps(found, indent=1))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
