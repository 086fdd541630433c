"""Files of MP-PDE: what is written comes back, published files are turned right, and files at odds with themselves are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tacit.core.errors import DataError, RecipeError
from tacit.core.spec import Spec
from tacit.worlds.pdes.layouts import mppde

h5py = pytest.importorskip("h5py")
F = torch.float64


def shocks(points):
    settings = {"beta": (0.1, 0.2), "gamma": (0.0, 0.5), "horizon": 0.2, "frames": 6, "stored": 6}
    return Spec("world", "shocks", points=points, **settings).build().generate(0, range(3))


def wave():
    settings = {"frames": 9, "horizon": 4.0, "points": 24, "left": "neumann"}
    return Spec("world", "wave", **settings).build().generate(0, range(3))


@pytest.mark.parametrize("labels", ["correct", "official"])
def test_several_resolutions_come_back(labels, tmp_path):
    path, fine, coarse = tmp_path / mppde.file_name("transport", "train", "E3"), shocks(40), shocks(20)
    assert path.name == "CE_train_E3.h5"
    mppde.write(path, [fine, coarse], "train", labels)
    assert mppde.resolutions(path, "train") == {40: 3, 20: 3}
    for field in (fine, coarse):
        points = field.space[0].shape[1]
        found = mppde.read(path, "train", points)
        torch.testing.assert_close(found.values["u"], field.values["u"])
        torch.testing.assert_close(found.time, field.time)
        torch.testing.assert_close(found.steps[0], field.steps[0])
        assert found.periodic == (True,) and torch.equal(found.parameters["beta"], field.parameters["beta"])
    assert mppde.read(path, "train").space[0].shape[1] == 40


def test_waves_of_published_files_run_forward_and_walls_have_signs(tmp_path):
    path, field = tmp_path / "WE_test_WE3.h5", wave()
    mppde.write(path, [field], "test", "official")
    with h5py.File(path) as file:
        assert np.allclose(file["test/pde_9-24"][0], field.values["u"][0].flip(0))
        assert file["test/bc_left"][0] == 1 and file["test/bc_right"][0] == 0
        assert file["test/pde_9-24"].attrs["nt"] == 9
    found, raw = mppde.read(path, "test"), mppde.read(path, "test", labels="official")
    torch.testing.assert_close(found.values["u"], field.values["u"])
    torch.testing.assert_close(raw.values["u"], field.values["u"].flip(1))
    torch.testing.assert_close(found.space[0], field.space[0])
    assert found.equation == "wave" and found.periodic == (False,) and found.parameters["bc_left"].tolist() == [1.0] * 3


def published(path, points=20):
    """A file as the released script writes it: no group of facts, x from one end of the domain to the other, dx = L / points."""
    x = np.linspace(0, 16, points)
    with h5py.File(path, "w") as file:
        group = file.create_group("valid")
        data = group.create_dataset(f"pde_5-{points}", data=np.random.default_rng(0).normal(size=(2, 5, points)))
        data.attrs.update({"dt": 4 / 5, "dx": 16 / points, "nt": 5, "nx": points, "tmin": 0.0, "tmax": 4.0, "x": x})
        for name in ("alpha", "beta", "gamma"):
            group.create_dataset(name, data=np.ones(2))


def test_the_x_of_published_files_is_put_where_the_equation_holds(tmp_path):
    path = tmp_path / "CE_valid_E1.h5"
    published(path)
    assert mppde.read(path, "valid").space[0][0].tolist() == pytest.approx([0.8 * j for j in range(20)])
    assert mppde.read(path, "valid", labels="official").space[0][0, -1] == 16
    source = Spec("source", "pde-files", path=str(path), layout="mp-pde", split="valid").build()
    batch = source.read([1, 0])
    assert batch.views["image"].data.shape == (2, 1, 5, 20) and batch.facts["alpha"].tolist() == [1.0, 1.0]


def test_files_at_odds_with_themselves_are_refused(tmp_path):
    path = tmp_path / "CE_valid_E1.h5"
    published(path)
    with pytest.raises(DataError, match="holds 20 points, not 100: choose one of them"):
        mppde.read(path, "valid", 100)
    with h5py.File(path, "a") as file:
        file["valid/pde_5-20"].attrs["dx"] = 0.16
    with pytest.raises(
        DataError, match=r"the domain does not match: x runs over 16 on 20 points, dx says 0\.16 where 0\.8"
    ):
        mppde.read(path, "valid")
    with h5py.File(path, "a") as file:
        file["valid/pde_5-20"].attrs["x"] = np.arange(7.0)
    with pytest.raises(DataError, match="x has 7 points, the trajectories have 20"):
        mppde.read(path, "valid")
    published(path)
    with h5py.File(path, "a") as file:
        file["valid/pde_5-20"][1, 3, 2] = np.nan
    with pytest.raises(DataError, match="component 'u' of trajectory 1 is not finite from frame 3 on"):
        mppde.read(path, "valid")
    with pytest.raises(RecipeError, match="points: only files of MP-PDE hold several resolutions"):
        Spec("source", "pde-files", path="x.h5", points=40).resolve()
