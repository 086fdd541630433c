import platform
import subprocess
import sys

import pytest
import torch
from standins import Noisy, Pictures, Tiny, recipe

from tacit.core.errors import RunError
from tacit.core.recipe import Machine
from tacit.training.loop import fit
from tacit.training.metrics import read_metrics
from tacit.training.runtime import choose_device, enter_runtime


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"), [(True, True, "cuda:0"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_cuda_before_mps_before_the_cpu(monkeypatch, cuda, mps, chosen):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto") == torch.device(chosen)
    if cuda:
        monkeypatch.setenv("LOCAL_RANK", "1")
        assert choose_device("cuda") == torch.device("cuda:1") and choose_device("cuda:0") == torch.device("cuda:0")
        with pytest.raises(
            RunError, match=r"machine.device: cuda:2 was asked for, and there are 2 cards here: start one"
        ):
            choose_device("cuda:2")


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    sentence = "machine.device: 'cuda' was asked for, and torch finds none here: choose device=cpu or device=auto"
    with pytest.raises(RunError, match=f"^{sentence}$"):
        choose_device("cuda")
    with pytest.raises(
        RunError, match=r"^machine.device: no device is named 'gpu': choose auto, cpu, cuda, cuda:1 or mps$"
    ):
        choose_device("gpu")


def test_threads_are_set_and_put_back():
    before = torch.get_num_threads()
    with enter_runtime(Machine(device="cpu", threads=before + 1)) as runtime:
        assert torch.get_num_threads() == before + 1
        assert (runtime.leads, runtime.sharded, runtime.ranks.size) == (True, False, 1)
    assert torch.get_num_threads() == before


_BLOCKS = """
import resource, torch
from tacit.core.recipe import Machine
from tacit.training.runtime import enter_runtime

def cleared(steps):  # blocks of 64 MiB, more than glibc ever keeps by itself, that the system had to give anew
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        torch.ones(16 << 20)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / (64 << 20)

def held():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / (64 << 20)

first = cleared(10)
with enter_runtime(Machine(device="cpu")):
    print(first, cleared(100), held(), end=" ")
print(held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory by rules of its own")
def test_memory_stays_with_the_process_between_steps_and_goes_back_at_the_end():
    said = subprocess.run([sys.executable, "-c", _BLOCKS], capture_output=True, text=True, check=True).stdout
    before, within, held, after = map(float, said.split())
    assert before > 9 and within < 20  # of 10 and of 100: the first ones leave remainders between them
    assert after < held - 0.9


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_the_forward_pass_runs_in_the_chosen_number_format(precision, dtype):
    with enter_runtime(Machine(device="cpu", precision=precision)) as runtime, runtime.autocast():
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype
    assert (runtime.scaler() is not None) == (precision == "fp16")


@pytest.mark.slow
@pytest.mark.compile
@pytest.mark.filterwarnings("default")  # the compiler's own warnings differ from one torch to the next
def test_a_compiled_run_learns_the_same_and_is_compiled_once(tmp_path):
    torch.compiler.reset()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]  # of other tests in this process
    with torch._dynamo.config.patch(error_on_recompile=False):
        for name in ("plain", "compiled"):
            system = Tiny(dropout=0.0)
            fit(recipe(machine={"compile": name == "compiled"}), system, Pictures(), Noisy(), tmp_path / name)
    compiled, plain = (read_metrics(tmp_path / name)["loss"][1] for name in ("compiled", "plain"))
    assert compiled == pytest.approx(plain, rel=1e-4)
    frames = torch._dynamo.utils.counters["stats"]["unique_graphs"] - before
    assert 1 <= frames <= 3, frames


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_run_on_cuda_learns_and_resumes(tmp_path, precision):
    from standins import DieAfter, Interrupt

    fields = {"steps": 30, "save_every": 5, "machine": {"device": "cuda", "precision": precision}}
    with pytest.raises(Interrupt):
        fit(recipe(**fields), Tiny(), Pictures(), Noisy(), tmp_path / "run", hooks=[DieAfter(12)])
    assert fit(recipe(**fields), Tiny(), Pictures(), Noisy(), tmp_path / "run").status == "finished"
    losses = read_metrics(tmp_path / "run")["loss"][1]
    assert losses[-5:].mean() < losses[:5].mean()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_a_loss_that_is_not_finite_is_found_a_step_late_and_never_saved(tmp_path):
    from tacit.training import checkpoint

    with pytest.raises(RunError, match=r"^step \d+: not finite: loss = nan, miss = nan, spread = nan"):
        fit(recipe(machine={"device": "cuda"}), Tiny(), Pictures(), Noisy(poison=107), tmp_path / "run")
    for step in checkpoint.saved_steps(tmp_path / "run"):
        weights = checkpoint.read(checkpoint.place(tmp_path / "run", step))["system"]
        assert all(torch.isfinite(w).all() for w in weights.values())
