"""What this machine offers: versions, devices, threads, optional packages."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from typing import Any

import tacit

__all__ = ["describe"]

_OPTIONAL = {
    "timm": "vision", "transformers": "vision", "submitit": "cluster", "distributed": "cluster", "ray": "ray",
    "wandb": "trackers", "trackio": "trackers",
}  # fmt: skip


def describe() -> dict[str, Any]:
    """Name -> finding, in the order in which to read them. Imports torch to ask for devices."""
    import torch

    disk = shutil.disk_usage(".")
    found: dict[str, Any] = {
        "tacit": tacit.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        or (["mps"] if torch.backends.mps.is_available() else ["cpu only"]),
        "free disk here": f"{disk.free / 2**30:.1f} GiB of {disk.total / 2**30:.1f}",
        "SLURM": "srun found" if shutil.which("srun") else "not on this machine",
    }
    for package, extra in _OPTIONAL.items():
        present = importlib.util.find_spec(package) is not None
        found[package] = (
            importlib.metadata.version(package) if present else f"not installed: pip install 'tacit[{extra}]'"
        )
    return found
