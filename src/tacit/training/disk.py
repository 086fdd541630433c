"""Files that are complete or absent: written beside, synchronised, renamed into place."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["replace", "sync", "write_json", "write_text"]


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file beside `path`, then put it in its place. A fault on the way leaves the old file as it was."""
    beside = path.with_name(f".{path.name}.partial")
    try:
        write(beside)
        sync(beside)
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Replace the text file `path`."""

    def write(beside: Path) -> None:
        beside.write_text(text, encoding="utf-8")

    replace(path, write)


def write_json(path: Path, value: Any) -> None:
    """Replace the JSON file `path`."""
    write_text(path, json.dumps(value, indent=1) + "\n")
