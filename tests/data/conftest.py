from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def write_picture(
    path: Path, seed: int, size: tuple[int, int] = (6, 5), mode: str = "RGB", **options: object
) -> np.ndarray:
    """A random picture of (height, width); returns its values [h w] or [h w c]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    values = np.random.default_rng(seed).integers(0, 256, (*size, *channels), dtype=np.uint8)
    Image.fromarray(values, mode=None).save(path, **options)
    return values


@pytest.fixture
def write():
    return write_picture


@pytest.fixture
def imagenet(tmp_path):
    """root/{train,val}/<wnid>/*.JPEG and an unlabelled test, ragged sizes."""
    root = tmp_path / "imagenet"
    seed = 0
    for split, count in (("train", 3), ("val", 2)):
        for wnid in ("n02119789", "n01440764"):
            for i in range(count):
                name = f"{wnid}_{i}.JPEG" if split == "train" else f"ILSVRC2012_val_{seed:08d}.JPEG"
                write_picture(root / split / wnid / name, seed, (8 + seed, 9))
                seed += 1
    for i in range(2):
        write_picture(root / "test" / f"ILSVRC2012_test_{i:08d}.JPEG", 100 + i, (8, 9))
    return root
