"""Foreign weights: no code is run, one prefix is stripped at the start, no silent partial match."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tacit.core.errors import CheckpointError
from tacit.core.spec import Spec
from tacit.core.values import Facts
from tacit.models import load_weights, read_weights


def encoder(**settings):
    return Spec("encoder", "convnet", widths=(4, 6), **settings).build(Facts(channels=3))


@pytest.fixture
def theirs():
    torch.manual_seed(1)
    return encoder()


def equal(one, two):
    a, b = one.state_dict(), two.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".bin", ".tar", ".safetensors"])
def test_every_format_is_read(tmp_path, theirs, suffix):
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(theirs.state_dict(), path)
    ours = encoder()
    match = load_weights(ours, path)
    assert equal(ours, theirs) and match.missing == match.unexpected == () and match.prefix == ""


@pytest.mark.parametrize(
    "prefix", ["module.", "backbone.", "encoder.", "model.", "_orig_mod.", "_fsdp_wrapped_module.", "module.backbone."]
)
def test_one_prefix_is_stripped_and_the_rest_is_reported(tmp_path, theirs, prefix):
    state = {prefix + name: value for name, value in theirs.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": {**state, "projector.0.weight": torch.ones(2, 2)}}, tmp_path / "c.ckpt")
    ours = encoder()
    match = load_weights(ours, tmp_path / "c.ckpt")
    assert equal(ours, theirs)
    assert (match.prefix, match.unexpected, match.missing) == (prefix, ("projector.0.weight",), ())


def test_a_prefix_is_stripped_at_the_start_only(tmp_path):
    """A network with a part called 'model' inside keeps its inner name."""
    inner = torch.nn.Sequential()
    inner.add_module("model", torch.nn.Linear(2, 2))
    outer = torch.nn.Module()
    outer.inner = inner
    state = {f"module.{name}": value + 1 for name, value in outer.state_dict().items()}
    assert set(state) == {"module.inner.model.weight", "module.inner.model.bias"}
    torch.save(state, tmp_path / "w.pth")
    assert load_weights(outer, tmp_path / "w.pth").prefix == "module."
    assert torch.equal(outer.inner.model.weight, state["module.inner.model.weight"])


def test_student_and_teacher_are_chosen_by_key(tmp_path, theirs):
    other = {name: value + 1 for name, value in theirs.state_dict().items()}
    torch.save({"student": other, "teacher": theirs.state_dict(), "deep": {"er": other}}, tmp_path / "c.pth")
    assert torch.equal(read_weights(tmp_path / "c.pth")["stages.0.0.weight"], theirs.stages[0][0].weight)
    for key in ("student", "deep.er"):
        ours = encoder()
        load_weights(ours, tmp_path / "c.pth", key=key)
        assert torch.equal(ours.stages[0][0].weight, other["stages.0.0.weight"])
    with pytest.raises(CheckpointError, match=r"c.pth: no entry 'ema'; found the entries student, teacher, deep$"):
        read_weights(tmp_path / "c.pth", key="ema")


def test_weights_go_under_the_published_names(tmp_path):
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("resnet10t", num_classes=10)
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    ours = Spec("encoder", "timm", name="resnet10t").build(Facts(channels=3))
    match = load_weights(ours, tmp_path / "timm.pth")
    assert match.unexpected == ("fc.weight", "fc.bias")
    assert torch.equal(ours.published.conv1[0].weight, theirs.conv1[0].weight)


class Exploit:
    def __reduce__(self):
        return print, ("code was run",)


def test_a_file_that_would_run_code_is_refused(tmp_path, capsys):
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": Exploit()}, path)
    with pytest.raises(CheckpointError) as caught:
        load_weights(encoder(), path)
    assert capsys.readouterr().out == ""
    assert str(caught.value) == (
        f"{path}: the file holds Python objects besides tensors and would run code on loading; tacit does not do that. "
        "Where you trust it, load it elsewhere, keep only the state dict, and save that as safetensors"
    )


def test_a_bare_malicious_pickle_is_refused(tmp_path, capsys):
    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(Exploit(), protocol=2))
    with pytest.raises(CheckpointError, match=r"evil.pt: "):
        read_weights(path)
    assert capsys.readouterr().out == ""


def test_settings_beside_the_weights_are_passed_over_and_other_objects_are_refused(tmp_path, theirs):
    torch.save({"model": theirs.state_dict(), "args": argparse.Namespace(lr=0.1)}, tmp_path / "args.pth")
    assert read_weights(tmp_path / "args.pth").keys() == theirs.state_dict().keys()
    torch.save({"model": theirs.state_dict(), "args": Path("x")}, tmp_path / "path.pth")
    with pytest.raises(CheckpointError, match=r"path.pth: the file holds Python objects besides tensors"):
        read_weights(tmp_path / "path.pth")


def test_a_missing_tensor_is_refused_unless_asked_for_and_changes_nothing(tmp_path, theirs):
    state = theirs.state_dict()
    del state["stages.1.0.weight"]
    torch.save({**state, "fc.weight": torch.ones(1)}, tmp_path / "w.pth")
    ours = encoder()
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_weights(ours, tmp_path / "w.pth")
    assert str(caught.value) == (
        f"{tmp_path / 'w.pth'}: 1 of the 12 tensors of ConvNet are not in the file: stages.1.0.weight; the file has besides "
        "fc.weight. Choose the encoder settings that the file was made with, or accept the gap with partial=True"
    )
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())
    match = load_weights(ours, tmp_path / "w.pth", partial=True)
    assert match.missing == ("stages.1.0.weight",) and len(match.loaded) == 11
    assert torch.equal(ours.stages[0][0].weight, theirs.stages[0][0].weight)


def test_counters_of_batch_norms_may_be_absent(tmp_path, theirs):
    state = {name: value for name, value in theirs.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "old.pth")
    assert load_weights(encoder(), tmp_path / "old.pth").missing == ()


def test_another_shape_is_refused_by_name_even_when_partial(tmp_path):
    other = Spec("encoder", "convnet", widths=(4, 8)).build(Facts(channels=3))
    torch.save(other.state_dict(), tmp_path / "w.pth")
    with pytest.raises(CheckpointError) as caught:
        load_weights(encoder(), tmp_path / "w.pth", partial=True)
    assert str(caught.value) == (
        f"{tmp_path / 'w.pth'}: 5 tensors have another shape: "
        "stages.1.0.weight is [8, 4, 3, 3] in the file and [6, 4, 3, 3] in ConvNet; "
        "stages.1.1.weight is [8] in the file and [6] in ConvNet; "
        "stages.1.1.bias is [8] in the file and [6] in ConvNet. "
        "Choose the encoder settings that the file was made with"
    )


def test_another_architecture_is_refused_by_its_names(tmp_path):
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "w.pth")
    with pytest.raises(CheckpointError) as caught:
        load_weights(encoder(), tmp_path / "w.pth")
    assert str(caught.value) == (
        f"{tmp_path / 'w.pth'}: none of the 12 tensors of ConvNet are in the file. It has weight, bias; ConvNet needs "
        "stages.0.0.weight, stages.0.1.weight, stages.0.1.bias and 9 more. Choose the encoder that the file was made with"
    )


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.97])
def test_a_cut_file_is_refused(tmp_path, theirs, suffix, keep):
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(theirs.state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    what = "torch" if suffix == ".pth" else "safetensors"
    with pytest.raises(CheckpointError, match=f"not a complete {what} file .*: copy or write it again$"):
        read_weights(path)


def test_files_that_are_not_there_or_of_another_kind_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"nothing.pth: there is no such file to read weights from$"):
        read_weights(tmp_path / "nothing.pth")
    (tmp_path / "w.onnx").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"are read from \.safetensors, .*; found the suffix '\.onnx'$"):
        read_weights(tmp_path / "w.onnx")
    torch.save({"epoch": 1, "loss": 0.5}, tmp_path / "w.pth")
    with pytest.raises(
        CheckpointError, match=r"no table of tensors; found the entries epoch, loss\. Name the right one"
    ):
        read_weights(tmp_path / "w.pth")
