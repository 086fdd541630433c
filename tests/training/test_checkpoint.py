import json
import re

import numpy as np
import pytest
import torch

from tacit.core.errors import CheckpointError, RunError
from tacit.training import checkpoint

KINDS = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool]


def state():
    tied = torch.arange(6.0).view(2, 3)
    return {
        "system": {str(kind): torch.ones(3, dtype=kind) for kind in KINDS}
        | {
            "tied": tied,
            "tied.too": tied,
            "part": tied[1],
            "turned": tied.T,
            "empty": torch.zeros(0, 4),
            "one": torch.tensor(7),
        },
        "hooks": {
            "judge": {
                "best": float("nan"),
                "worst": float("-inf"),
                "rows": [1, (2.5, None, "x")],
                "z": np.arange(4) / 3,
            }
        },
        "scaler": None,
    }


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def test_what_is_written_is_read_back_bit_for_bit(tmp_path):
    path = checkpoint.write(tmp_path, 12, state())
    assert path == tmp_path / "steps/00000012" and checkpoint.saved_steps(tmp_path) == [12]
    assert equal(checkpoint.read(path), state())


def test_nothing_in_it_needs_a_pickle(tmp_path):
    path = checkpoint.write(tmp_path, 1, state())
    assert {p.name for p in path.iterdir()} == {"state.json", "system.safetensors", "hooks.safetensors"}
    json.loads((path / "state.json").read_text())


def test_only_the_newest_are_kept_and_leftovers_go(tmp_path):
    for step in (1, 2, 3):
        checkpoint.write(tmp_path, step, state())
    (tmp_path / "steps/00000009.partial").mkdir()
    checkpoint.prune(tmp_path, 2)
    assert checkpoint.saved_steps(tmp_path) == [3, 2]
    assert sorted(p.name for p in (tmp_path / "steps").iterdir()) == ["00000002", "00000003"]


@pytest.mark.parametrize("name", ["state.json", "system.safetensors"])
@pytest.mark.parametrize("harm", ["cut", "flip", "gone", "empty"])
def test_every_damage_is_noticed(tmp_path, name, harm):
    path = checkpoint.write(tmp_path, 1, state())
    file = path / name
    whole = bytearray(file.read_bytes())
    whole[len(whole) * 3 // 4] ^= 1
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes({"cut": whole[: len(whole) // 2], "flip": whole, "empty": b""}[harm])
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(path))}.* is damaged: "):
        checkpoint.read(path)


def test_a_later_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_FORMAT", 2)
    path = checkpoint.write(tmp_path, 1, state())
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"has format 2; this version of tacit reads format 1$"):
        checkpoint.read(path)


@pytest.mark.parametrize("step", ["save_file", "sync"])
def test_a_fault_on_the_way_leaves_nothing(tmp_path, monkeypatch, step):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, step, full)
    sentence = f"the checkpoint of step 4 could not be written to {tmp_path}/steps/00000004: No space left on device"
    with pytest.raises(RunError, match=f"^{re.escape(sentence)}$"):
        checkpoint.write(tmp_path, 4, state())
    assert list((tmp_path / "steps").iterdir()) == []


@pytest.mark.parametrize("odd", [object(), {1: 2}, np.int64(3)])
def test_a_state_that_cannot_be_saved_is_named(tmp_path, odd):
    kind = type(odd).__name__
    with pytest.raises(CheckpointError, match=rf"^hooks.judge/inner: a {kind} cannot be saved; a state holds tensors"):
        checkpoint.write(tmp_path, 1, {"hooks": {"judge": {"inner": odd}}})
