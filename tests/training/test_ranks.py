import json
import re
import shutil
import socket

import pytest
import ranked
import torch
from safetensors import safe_open
from standins import DieAfter, Interrupt, Tiny
from torch.multiprocessing import ProcessExitedException

from tacit.core.errors import CheckpointError
from tacit.core.random import order
from tacit.training import checkpoint, state
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
        with pytest.raises(ProcessExitedException, match="process 0 terminated with signal SIGKILL"):  # its last act
            torch.multiprocessing.spawn(ranked.main, args=(2, port, str(folder)), nprocs=2)
    return folder


POISON = int(order(11, 0, 20)[5]) + 100  # in the second half of the first batch: with two processes, on rank 1


def found(root):
    return [json.loads((root / f"found-{rank}.json").read_text()) for rank in (0, 1)]


def weights(folder):
    return checkpoint.read(folder / "steps/00000007")["system"]


def files(folder, step=7):
    """What a checkpoint holds, by path."""
    place = checkpoint.place(folder, step)
    return {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same runs by one process."""
    folder = tmp_path_factory.mktemp("alone")
    for kind in ranked.OPTIMIZERS:
        ranked.train(folder / kind, kind=kind)
    ranked.train(folder / "accumulated", kind="sgd", accumulate=2)
    return folder


def content(folder):
    """What a checkpoint says: the tree of its state, and of each file its table of contents and the bytes of its tensors."""
    said = {}
    for name, file in files(folder).items():
        size = int.from_bytes(file[:8], "little")
        # entries of a header come in any order, so checksums differ
        said[name] = (
            json.loads(file)["body"]["state"]
            if name == "state.json"
            else (json.loads(file[8 : 8 + size]), file[8 + size :])
        )
    return said


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
    assert content(root / f"{sharding}-2-2") == content(root / f"{sharding}-adamw")  # 2 -> 2: bitwise
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


SHARDS = [f"shard-0000{k}-model-00001-of-00001.safetensors" for k in (1, 2)]


def test_every_process_writes_its_own_shards_and_none_holds_the_whole(root):
    wanted = {"state.json", *(f"{part}/{name}" for part in ("system", "optimizer") for name in SHARDS)}
    assert files(root / "fsdp-adamw").keys() == wanted
    assert files(root / "ddp-adamw").keys() == {"state.json", "system.safetensors", "optimizer.safetensors"}
    assert [f["gathered"] for f in found(root)] == [1, 1]  # the norm of the gradient, a scalar, and nothing else
    rows = {}
    for name in SHARDS:
        with safe_open(root / "fsdp-adamw/steps/00000007/system" / name, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                rows.setdefault(key, []).append(file.get_tensor(key))
    for name, whole in weights(root / "fsdp-adamw").items():
        if name in dict(Tiny(blocks=2).named_parameters()):
            assert [len(r) for r in rows[name]] == [-(-len(whole) // 2), len(whole) // 2]
            assert torch.equal(torch.cat(rows[name]), whole)
        else:
            assert len(rows[name]) == 1 and torch.equal(rows[name][0], whole)  # a buffer: once


def test_sharded_files_are_safetensors_and_json_and_nothing_else(root):
    for name, content in files(root / "fsdp-adamw").items():
        if name == "state.json":
            body = json.loads(content)["body"]
        else:
            size = int.from_bytes(content[:8], "little")
            header = json.loads(content[8 : 8 + size])
            json.loads(header.pop("__metadata__")["DCP_SHARDING_INFO"])
            # every byte is the header's or a tensor's
            assert 8 + size + max(entry["data_offsets"][1] for entry in header.values()) == len(content)
    assert body["files"].keys() == files(root / "fsdp-adamw").keys() - {"state.json"}


@pytest.mark.parametrize("name", ["state.json", f"system/{SHARDS[0]}", f"optimizer/{SHARDS[1]}"])
@pytest.mark.parametrize("harm", ["cut", "flip", "gone", "more"])
def test_every_damage_to_shards_is_noticed(root, tmp_path, name, harm):
    path = shutil.copytree(root / "fsdp-adamw/steps/00000007", tmp_path / "00000007")
    file = path / name
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    if harm == "gone":
        file.unlink()
    elif harm == "more":
        shutil.copy(path / "system" / SHARDS[0], path / "system/shard-00003-model-00001-of-00001.safetensors")
    else:
        file.write_bytes({"cut": content[:-5], "flip": content}[harm])
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(path))}.* is damaged: "):
        checkpoint.read(path)


def test_damaged_shards_are_named_and_the_checkpoint_before_them_used(root, alone):
    folder = root / "damaged"
    bad = folder / "steps/00000003/optimizer" / SHARDS[1]
    log = (folder / "log.txt").read_text()
    assert (
        f"warning: {bad} is damaged: its checksum does not match. It is now 00000003.damaged; going on from step 2"
        in log
    )
    assert content(folder) == content(root / "fsdp-adamw")


def test_one_process_restores_what_was_saved_in_shards(root):
    system = Tiny(dropout=0.0, blocks=2).double()
    path = root / "fsdp-adamw/steps/00000007"
    state.load_system(system, checkpoint.read(path)["system"], path)
    assert system.state_dict().keys() == weights(root / "fsdp-adamw").keys()
    assert all(torch.equal(value, weights(root / "fsdp-adamw")[name]) for name, value in system.state_dict().items())


def test_a_process_that_cannot_write_its_shards_stops_all_and_leaves_nothing(root):
    a, b = (f["full-shard"] for f in found(root))
    sentence = (
        f"the checkpoint of step 1 could not be written to {root}/full-shard/steps/00000001: rank 1: No space left"
    )
    assert a.startswith(sentence) and "No checkpoint had been written. Make room" in a
    assert b.startswith(sentence)
    assert list((root / "full-shard/steps").iterdir()) == []


def test_a_shard_that_is_not_finite_is_not_saved_by_any(root):
    a, b = (f["broken"] for f in found(root))
    assert a == b and a.startswith(
        "step 7: weights are not finite though the loss was: student.head.weight. The last good"
    )
    assert checkpoint.saved_steps(root / "broken")[0] == 6


def test_killed_when_all_shards_are_written_it_goes_on_from_the_last_complete_checkpoint(root, alone):
    folder = root / "killed"
    assert checkpoint.saved_steps(folder) == [3, 2, 1]
    left = {str(p.relative_to(folder / "steps")) for p in folder.glob("steps/*.partial/**/*") if p.is_file()}
    assert left == {f"00000004.partial/{name}" for name in files(root / "fsdp-adamw")}
    ranked.train(folder, sharding="fsdp")
    assert "starts at step 3 of 7" in (folder / "log.txt").read_text()
    close(weights(folder), weights(alone / "adamw"))
    assert not list(folder.glob("steps/*.partial"))


def test_fp16_without_its_scaler_is_refused(root):
    sentence = "machine.precision: 'fp16' needs a gradient scaler, which sharding='fsdp' lacks: choose bf16"
    assert [f["refused"] for f in found(root)] == [sentence, sentence]
