"""The laws of a source."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tacit.core.laws.case import Case
from tacit.core.values import Batch, Facts

__all__ = ["check_source"]


def check_source(source: Any, *, samples: int = 8) -> None:
    """Check a source, or a class or function without arguments that makes one, on up to `samples` samples spread over it.

    Its facts, length, digest and content must agree; a sample must be the same by itself, among others, in any order, twice, in
    threads, and in a pickled copy (which is how workers get it); ids must be distinct and stable; images uint8 or float32
    in [0, 1], labels int64 and within the classes.
    """
    case = Case(source)
    if isinstance(source, type) or not hasattr(source, "read"):
        with case.during("runs"):
            source = source()
    with case.during("runs"):
        total = len(source)
        case.need(total > 0, "length", f"len is {total}")
        facts = getattr(source, "facts", None)
        case.need(isinstance(facts, Facts), "has facts", f"`facts` is {type(facts).__name__}, not Facts")
        digest = source.digest()
        good = isinstance(digest, str) and digest and set(digest) <= set("0123456789abcdef")
        case.need(good, "digest", f"it must be hexadecimal digits, found {digest!r}")
        case.need(source.digest() == digest, "digest", "it changed between two calls")
        step = max(1, total // samples)
        indices = list(range(0, total, step))[:samples]
        if total - 1 not in indices:
            indices[-1] = total - 1  # the last one is where off-by-one hides
        batch = source.read(indices)
        _check_batch(case, batch, source.facts, len(indices))
        _check_reads(case, source, batch, indices)
        _check_copies(case, source, batch, indices, digest)


def _rows(batch: Batch) -> list[list[Any]]:
    """Everything a batch says of each sample, by sample."""
    columns = [batch.views["image"].data, batch.ids, *(batch.facts[name] for name in sorted(batch.facts))]
    return [[column[i] for column in columns] for i in range(len(batch))]


def _same(one: Sequence[Sequence[Any]], two: Sequence[Sequence[Any]]) -> bool:
    import torch

    return len(one) == len(two) and all(
        len(a) == len(b) and all(torch.equal(u, v) for u, v in zip(a, b, strict=True))
        for a, b in zip(one, two, strict=True)
    )


def _check_batch(case: Case, batch: Any, facts: Facts, n: int) -> None:
    import torch

    case.need(isinstance(batch, Batch), "reads a Batch", f"found {type(batch).__name__}")
    case.need(set(batch.views) == {"image"}, "reads a Batch", f"the one view is 'image', found {sorted(batch.views)}")
    ids = batch.ids
    good = isinstance(ids, torch.Tensor) and ids.dtype == torch.int64 and ids.shape == (n,)
    case.need(good, "ids", f"they must be int64 [{n}], found {ids!r}")
    case.need(len(set(ids.tolist())) == n, "ids", f"they must be distinct, found {ids.tolist()}")
    data = batch.views["image"].data
    case.need(len(data) == n, "order", f"{len(data)} images for {n} indices")
    case.need(isinstance(data, list) or facts.shape is not None, "facts", "images of one size, but facts.shape is None")
    for image in data:
        _check_image(case, image, facts)
    named = {*facts.factors, *(("label",) if facts.classes else ())}
    case.need(named <= set(batch.facts), "facts", f"promised {sorted(named)}, read {sorted(batch.facts)}")
    for name, value in batch.facts.items():
        case.need(len(value) == n, "facts", f"{name!r} has {len(value)} rows for {n} samples")
    if "label" in batch.facts:
        label = batch.facts["label"]
        good = label.dtype == torch.int64 and label.shape == (n,)
        case.need(good, "labels", f"they must be int64 [{n}], found {label.dtype} {list(label.shape)}")
        inside = not facts.classes or (label.min() >= 0 and label.max() < len(facts.classes))
        case.need(inside, "labels", f"{label.tolist()} do not fit {len(facts.classes)} classes")
    for name, value in (("mean", facts.mean), ("std", facts.std)):
        case.need(
            len(value) in (0, facts.channels), "facts", f"{name} has {len(value)} numbers for {facts.channels} channels"
        )


def _check_image(case: Case, image: Any, facts: Facts) -> None:
    import torch

    case.need(
        image.dtype in (torch.uint8, torch.float32), "dtype", f"images must be uint8 or float32, found {image.dtype}"
    )
    if image.dtype == torch.float32:
        case.need(image.min() >= 0 and image.max() <= 1, "range", "float images must lie in [0, 1]")
    case.need(image.ndim >= 3, "shape", f"an image is [c h w], found {list(image.shape)}")
    case.need(image.shape[0] == facts.channels, "facts", f"{image.shape[0]} channels read, facts say {facts.channels}")
    size = tuple(image.shape[1:])
    case.need(facts.shape in (None, size), "facts", f"an image of {size} read, facts say {facts.shape}")


def _check_reads(case: Case, source: Any, batch: Batch, indices: list[int]) -> None:
    import numpy as np

    rows = _rows(batch)
    case.need(
        _same(rows, _rows(source.read(indices))), "repeatable", "reading the same indices again gave other samples"
    )
    backwards = _rows(source.read(indices[::-1]))[::-1]
    case.need(_same(rows, backwards), "order", "samples must come in the order of the indices")
    alone = [_rows(source.read([i]))[0] for i in indices]
    case.need(_same(rows, alone), "each sample by itself", "a sample read alone differs from the one read among others")
    with case.during("numpy indices"):
        array = _rows(source.read(np.asarray(indices, dtype=np.int64)))
    case.need(_same(rows, array), "numpy indices", "an int64 array of indices gave other samples than a list")
    twice = _rows(source.read([indices[0], indices[0]]))
    case.need(_same([rows[0], rows[0]], twice), "repeatable", "the same index twice must give the same sample twice")


def _check_copies(case: Case, source: Any, batch: Batch, indices: list[int], digest: str) -> None:
    rows = _rows(batch)
    with case.during("pickles"):
        copied = pickle.loads(pickle.dumps(source))
    same = copied.digest() == digest and len(copied) == len(source) and copied.facts == source.facts
    case.need(same, "pickles", "the copy has another digest, length or other facts")
    case.need(_same(rows, _rows(copied.read(indices))), "pickles", "the copy reads other samples")
    with case.during("threads"), ThreadPoolExecutor(4) as pool:
        reads = list(pool.map(lambda i: _rows(source.read([i]))[0], indices * 4))
    case.need(_same(rows * 4, reads), "threads", "reads in threads disturb each other")
