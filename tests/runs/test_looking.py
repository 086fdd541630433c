"""Files of trajectories are recognised by name, said in lines, and read whole: each fault is named, the rest counted."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import DataError
from tacit.core.random import key
from tacit.core.spec import Spec
from tacit.runs import looking
from tacit.worlds.pdes.layouts import lpsda, mppde, smoke, well
from tacit.worlds.pdes.making import trajectories

h5py = pytest.importorskip("h5py")

KDV = Spec("world", "kdv", length=64.0, horizon=2.0, points=64, frames=12, stored=10, substeps=8)
BURGERS = Spec("world", "burgers", points=32, frames=10, stored=8, horizon=2.0, viscosity=(0.1, 0.2))


def made(world, count, split="train"):
    return trajectories(world, key(0, split), range(count))


def test_sets_of_several_equations_in_a_folder_are_told_apart(tmp_path):
    lpsda.write(tmp_path / "KdV_train_5.h5", made(KDV, 5), "train")
    lpsda.write(tmp_path / "KdV_valid.h5", made(KDV, 2, "valid"), "valid")
    lpsda.write(tmp_path / "Burgers_test.h5", made(BURGERS, 3, "test"), "test")
    found = looking.inspect(str(tmp_path)).to_plain()["sets"]
    assert [(one["equation"], one["splits"]) for one in found] == [
        ("kdv", {"train": 5, "valid": 2}),
        ("burgers", {"test": 3}),
    ]
    assert (found[0]["shape"], found[0]["components"]) == ([10, 64], ["u"])
    field = made(KDV, 5)
    assert found[0]["lengths"] == pytest.approx([float(field.lengths[0].mean())])
    low, high = found[0]["parameters"]["mode_1"]
    assert (low, high) == (float(field.parameters["mode_1"].min()), float(field.parameters["mode_1"].max()))
    text = looking.inspect(str(tmp_path)).text()
    assert "kdv (data=pde-files data.layout=lpsda data.equation=kdv)" in text
    assert looking.verify(str(tmp_path)).ok
    one = looking.verify(str(tmp_path / "KdV_valid.h5"))
    assert (one.ok, one.splits) == (True, {"kdv valid": 2})


@pytest.mark.parametrize("layout", ["well", "pdearena", "mp-pde"])
def test_the_other_layouts_are_known_by_their_names(tmp_path, layout):
    if layout == "well":
        well.write(tmp_path / "data" / "train" / "burgers_00000.hdf5", made(BURGERS, 3), "train")
    elif layout == "pdearena":
        box = made(Spec("world", "smoke", points=16, length=8.0, frames=9, warmup=8), 1)
        box = box.replace(parameters={**box.parameters, "buoyancy": torch.tensor([0.3], dtype=torch.float64)})
        smoke.write(tmp_path / str(smoke.Name("train", 0, 0.3, 1)), box, "train")
    else:
        mppde.write(
            tmp_path / "CE_train_E1.h5", [made(Spec("world", "transport", points=40, frames=10, stored=10), 2)], "train"
        )
    (found,) = looking.recognise_fields(tmp_path)
    assert (found.layout, found.splits) == (layout, ("train",))
    assert len(found.source("train")) == looking.inspect(str(tmp_path)).sets[0]["splits"]["train"]
    assert looking.verify(str(tmp_path)).ok


def test_faults_are_named_by_trajectory_and_the_rest_is_read(tmp_path):
    path = tmp_path / "KdV_train_6.h5"
    lpsda.write(path, made(KDV, 6), "train")
    lpsda.write(tmp_path / "KdV_test.h5", made(KDV, 2), "test")  # drawn as those of train: a leak
    with h5py.File(path, "a") as file:
        group = file["train"]
        group["pde_10-64"][2, 5] = float("nan")
        group["t"][3, 4:] += 5.0
        group["pde_10-64"][5] = group["pde_10-64"][4]
    (tmp_path / "KdV_valid.h5").write_bytes(path.read_bytes()[:3000])
    seen = []
    found = looking.verify(str(tmp_path), progress=lambda *at: seen.append(at))
    assert seen == [(k + 1, 8) for k in range(8)]
    assert found.splits == {"kdv train": 4, "kdv test": 2}
    lines = dict(line.split(": ", 1) for line in found.faults)
    assert set(lines) == {
        "kdv valid", "kdv train 2", "kdv train 3",
        "kdv test 0 is kdv train 0 again", "kdv test 1 is kdv train 1 again",
    }  # fmt: skip
    assert (
        "not finite from frame 5 on" in lines["kdv train 2"] and "(read as row 2 of the file)" in lines["kdv train 2"]
    )
    assert "after frame 3" in lines["kdv train 3"]
    assert "not a readable HDF5 file" in lines["kdv valid"]
    assert found.notes[0] == "kdv train 5 is kdv train 4 again"
    assert not found.ok and "trajectories read: kdv train 4, kdv test 2: there are faults" in found.text()


def test_a_broken_first_trajectory_hides_no_other(tmp_path):
    path = tmp_path / "KdV_train_4.h5"
    lpsda.write(path, made(KDV, 4), "train")
    with h5py.File(path, "a") as file:
        for row in (0, 2):
            file["train"]["pde_10-64"][row, 1] = float("nan")
    found = looking.verify(str(tmp_path))
    assert [fault.partition(":")[0] for fault in found.faults] == ["kdv train 0", "kdv train 2"]
    assert found.splits == {"kdv train": 2}
    with pytest.raises(DataError, match="not finite from frame 1 on"):
        looking.inspect(str(tmp_path))


def test_waves_on_uneven_points_are_no_fault(tmp_path):
    waves = made(Spec("world", "wave", points=24, frames=10), 2)
    mppde.write(tmp_path / "WE_train_WE1.h5", [waves], "train")
    assert looking.verify(str(tmp_path)).faults == ()


def test_what_holds_no_trajectories_is_said(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    assert looking.recognise_fields(tmp_path) == ()
    with pytest.raises(
        DataError, match=r"no files of trajectories; looked for KdV, KS, Heat, Burgers, CE, WE and NavierStokes2D"
    ):
        looking.inspect(str(tmp_path), "pde-files")
    with pytest.raises(DataError, match="no known layout"):
        looking.verify(str(tmp_path))
