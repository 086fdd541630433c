import os
import sys
from pathlib import Path

import pytest

# worker processes import the stand-ins by name, so their folder must be on the path that they inherit
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """Waiting for the disk proves nothing here; the kill test runs in processes of its own, where it stays."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
