"""Tokens of a frozen encoder kept on disk, for heads that train on them for many epochs. Legend: n samples, T tokens, d features."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError

__all__ = ["TokenStore"]


class TokenStore:
    """float16 [n T d] in `tokens.npy`, read by rows without loading it whole; written beside and renamed, so complete or absent.

    Half precision holds normalised tokens to 2^-11 of themselves; the published probes run in it as well.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokens: NDArray[np.float16] = np.load(folder / "tokens.npy", mmap_mode="r", allow_pickle=False)

    @staticmethod
    def opened(folder: Path, n: int) -> TokenStore | None:
        """The store of a folder if it is whole and has n samples, else None."""
        try:
            said = json.loads((folder / "store.json").read_text(encoding="utf-8"))
            store = TokenStore(folder)
        except (OSError, ValueError):
            return None
        return store if list(store.tokens.shape) == said["shape"] and len(store.tokens) == n else None

    @staticmethod
    def written(folder: Path, n: int, parts: Iterator[Tensor]) -> TokenStore:
        """Write the tokens of n samples, part by part."""
        beside = folder.with_name(f".{folder.name}-{os.getpid()}")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            held: Any = None
            at = 0
            for part in parts:
                if held is None:
                    shape = (n, *part.shape[1:])
                    held = np.lib.format.open_memmap(beside / "tokens.npy", mode="w+", dtype=np.float16, shape=shape)
                held[at : at + len(part)] = part.to(torch.float16).cpu().numpy()
                at += len(part)
            if held is None or at != n:
                raise DataError(f"tokens of {at} samples were made where {n} were announced")
            held.flush()
            (beside / "store.json").write_text(json.dumps({"shape": list(held.shape)}), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return TokenStore(folder)

    def rows(self, rows: NDArray[np.int64]) -> Tensor:
        """float32 [k T d]."""
        return torch.from_numpy(np.asarray(self.tokens[rows], dtype=np.float32))
