import json
import socket

import pytest
import ranked
import torch
from safetensors.torch import load_file
from standins import DieAfter, Interrupt

from tacit.core.random import order
from tacit.training.metrics import read_metrics

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The folder that two processes have worked in; what one process has to do first or alone is done here."""
    folder = tmp_path_factory.mktemp("ranks")
    for sharding in ("ddp", "fsdp"):
        with pytest.raises(Interrupt):
            ranked.train(folder / f"{sharding}-1-2", DieAfter(4), sharding=sharding)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POISON", str(POISON))
        torch.multiprocessing.spawn(ranked.main, args=(2, port, str(folder)), nprocs=2)
    return folder


POISON = int(order(11, 0, 20)[5]) + 100  # in the second half of the first batch: with two processes, on rank 1


def found(root):
    return [json.loads((root / f"found-{rank}.json").read_text()) for rank in (0, 1)]


def weights(folder):
    return load_file(folder / "steps/00000007/system.safetensors")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same runs by one process."""
    folder = tmp_path_factory.mktemp("alone")
    for kind in ranked.OPTIMIZERS:
        ranked.train(folder / kind, kind=kind)
    ranked.train(folder / "accumulated", kind="sgd", accumulate=2)
    return folder


def close(a, b, tolerance=1e-10):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


def test_the_launchers_variables_are_followed_and_everything_is_put_back(root):
    assert [f["entered"] for f in found(root)] == [[2, 0, True, 1], [2, 1, False, 1]]
    assert [f["left"] for f in found(root)] == [[False, True]] * 2


@pytest.mark.parametrize("index", range(3))
def test_batchnorm_of_two_processes_equals_one_on_the_joined_batch(root, index):
    layer, x = list(ranked.norms())[index]
    wanted = ranked.norm_results(layer, x)
    shares = [torch.load(root / f"norm-{index}-{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, value in wanted.items():
        if name in ("y", "x", "evaluated"):
            got = torch.cat([share[name] for share in shares])
        elif name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            got = shares[0][name]
            assert torch.equal(got, shares[1][name])
        else:
            got = shares[0][name] + shares[1][name]  # a sum over samples: DDP would halve it for a mean
        torch.testing.assert_close(got, value, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", [*ranked.OPTIMIZERS, "accumulated"])
@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_two_processes_train_what_one_trains_on_the_joined_batch(root, alone, sharding, kind):
    """System with BatchNorm, a global statistic in its loss, a following teacher, and a clipped gradient."""
    close(weights(root / f"{sharding}-{kind}"), weights(alone / kind))
    ours, theirs = read_metrics(root / f"{sharding}-{kind}"), read_metrics(alone / kind)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name][1] == pytest.approx(theirs[name][1], rel=1e-6), name


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_a_checkpoint_of_n_processes_resumes_on_m(root, alone, sharding):
    assert [f[f"{sharding}-2-2"] for f in found(root)] == [3, 3]
    ours = (root / f"{sharding}-2-2/steps/00000007/system.safetensors").read_bytes()
    assert ours == (root / f"{sharding}-adamw/steps/00000007/system.safetensors").read_bytes()  # 2 -> 2: bitwise
    close(weights(root / f"{sharding}-1-2"), weights(alone / "adamw"))
    ranked.train(root / f"{sharding}-2-1", sharding=sharding)
    close(weights(root / f"{sharding}-2-1"), weights(alone / "adamw"))


def test_a_loss_that_is_not_finite_names_the_rank_and_stops_all(root):
    a, b = (f["poisoned"] for f in found(root))
    assert a == b and a.startswith("step 1: not finite: ") and "miss = nan on rank 1" in a
    assert "miss = nan on rank 0" not in a or "spread = nan on rank 0" in a
    assert f"{POISON}" in a and "The batch held 8 samples" in a


def test_a_signal_to_one_process_stops_all_after_the_same_step(root):
    a, b = (f["signalled"] for f in found(root))
    assert a == ["stopped", 4, "a signal to another process"] and b == ["stopped", 4, "SIGTERM"]


def test_a_full_disk_of_the_leader_stops_all(root):
    a, b = (f["full"] for f in found(root))
    assert a.startswith(f"the checkpoint of step 1 could not be written to {root}/full/steps/00000001: No space left")
    assert b == "the leading process (rank 0) had to stop: its message says why"


def test_fp16_without_its_scaler_is_refused(root):
    sentence = "machine.precision: 'fp16' needs a gradient scaler, which sharding='fsdp' lacks: choose bf16"
    assert [f["refused"] for f in found(root)] == [sentence, sentence]
