"""Shards and published layouts: write in the published form, read back, restart, refuse what contradicts itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tacit.core.errors import DataError
from tacit.core.random import key
from tacit.core.spec import Spec
from tacit.worlds.pdes.layouts import lpsda, smoke, well
from tacit.worlds.pdes.making import Job, finish, generate, trajectories

h5py = pytest.importorskip("h5py")

KDV = Spec("world", "kdv", length=64.0, horizon=2.0, points=64, frames=12, stored=10, substeps=8)
BOX = Spec("world", "smoke", points=16, length=8.0, frames=9, warmup=8)


def test_shards_in_any_order_make_the_published_file(tmp_path):
    job = Job(KDV, 5, split="train", seed=3, size=2)
    with pytest.raises(
        DataError, match=r"3 of 3 shards are not made yet, the first is kdv-train-00000.h5: generate them"
    ):
        finish(job, tmp_path)
    for shard in (2, 0, 1):
        generate(job, tmp_path, shard)
    (path,) = finish(job, tmp_path, suffix="easy")
    assert path.name == "KdV_train_5_easy.h5"
    with h5py.File(path) as file:
        group = file["train"]
        assert set(group) == {"pde_10-64", "x", "dx", "t", "dt"}
        assert group["pde_10-64"].shape == (5, 10, 64)
        assert group["pde_10-64"].dtype == np.float64
        assert group["dx"].shape == group["dt"].shape == (5,)
    read = lpsda.read(path, "kdv")
    whole = trajectories(KDV, key(3, "train"), range(5))
    torch.testing.assert_close(read.values["u"], whole.values["u"], atol=1e-10, rtol=0)
    single = lpsda.read(path, "kdv", rows=slice(3, 4))
    assert torch.equal(single.values["u"][0], read.values["u"][3])
    torch.testing.assert_close(read.lengths[0], read.parameters["length"])
    assert {"drift_mass", "drift_momentum", "drift_energy", "amplitude"} <= set(read.parameters)


def test_a_shard_is_made_once_is_the_same_again_and_grows_with_the_set(tmp_path):
    job = Job(KDV, 4, size=2)
    path = generate(job, tmp_path, 1)
    stamp = path.stat().st_mtime_ns
    assert generate(job, tmp_path, 1) == path
    assert path.stat().st_mtime_ns == stamp
    first = lpsda.read(path, "kdv").values["u"]
    path.unlink()
    generate(job, tmp_path, 1)
    assert torch.equal(lpsda.read(path, "kdv").values["u"], first)
    longer = Job(KDV, 6, size=2)
    assert generate(longer, tmp_path, 1).stat().st_mtime_ns == path.stat().st_mtime_ns
    with pytest.raises(DataError, match="was made from other settings: choose another folder or remove it"):
        generate(Job(KDV.change(points=96), 4, size=2), tmp_path, 1)
    assert not list(tmp_path.rglob("*.part"))
    with pytest.raises(DataError, match="shard 9 does not exist: 4 trajectories make shards 0 to 1"):
        generate(job, tmp_path, 9)


def test_splits_and_seeds_hold_different_trajectories(tmp_path):
    rows = [lpsda.read(generate(Job(KDV, 2, split=split, seed=seed), tmp_path / f"{split}{seed}", 0), "kdv").values["u"]
            for split, seed in (("train", 0), ("valid", 0), ("train", 1))]  # fmt: skip
    assert not torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])


def test_smoke_files_carry_one_buoyancy_and_read_back_with_axes_in_place(tmp_path):
    job = Job(BOX, 3, split="train", seed=100, size=2, layout="pdearena")
    paths = finish(job, tmp_path)
    assert smoke.files(tmp_path, "train") == sorted(paths)
    name = smoke.Name.parse(paths[0].name)
    assert name is not None
    assert (name.split, name.seed, name.count) == ("train", 100, 2)
    with h5py.File(paths[0]) as file:
        assert set(file["train"]) == {"u", "vx", "vy", "t", "dt", "x", "dx", "y", "dy", "buo_y"}
        assert file["train"]["u"].shape == (2, 9, 16, 16)
    field = smoke.read(paths[0])
    assert field.parameters["buoyancy"].tolist() == [name.buoyancy] * 2
    vx, vy = field.values["vx"], field.values["vy"]
    inside = vx[:, :, 1:, :-1] - vx[:, :, :-1, :-1] + vy[:, :, :-1, 1:] - vy[:, :, :-1, :-1]
    assert float(inside[:, :, :, :-1].abs().max()) < 1e-12
    wrong = vx.transpose(-1, -2)[:, :, 1:, :-1] - vx.transpose(-1, -2)[:, :, :-1, :-1]
    assert float(wrong.abs().max()) > 1e-3
    assert smoke.Name.parse("NavierStokes2D_valid_198110_0.27184.h5") == smoke.Name("valid", 197910, 0.27184)


def test_official_labels_are_mended_on_request_and_a_contradicted_buoyancy_is_refused(tmp_path):
    (path,) = finish(Job(BOX.change(compat="official"), 1, size=1, layout="pdearena"), tmp_path)
    official, correct = smoke.read(path, labels="official"), smoke.read(path)
    assert official.time[0, [0, -1]].tolist() == [18.0, 102.0]
    assert correct.time[0, :2].tolist() == [13.5, 15.0]
    assert correct.space[0][0, :2].tolist() == [0.25, 0.75]
    with h5py.File(path, "a") as file:
        assert float(file["train"]["dt"][0]) == 1.5
        del file["train"]["t"], file["train"]["dt"]  # as the published generator writes them: dt is not the step of t
        file["train"]["t"], file["train"]["dt"] = np.linspace(18, 102, 9)[None], np.array([84 / 9])
    assert smoke.read(path).time[0, :2].tolist() == pytest.approx([13.5, 13.5 + 84 / 9])
    with h5py.File(path, "a") as file:
        file["train"]["buo_y"][:] = 0.5
    with pytest.raises(DataError, match=r"its name says buoyancy 0.\d+, its data 0.5: this copy was made before"):
        smoke.read(path)
    with pytest.raises(DataError, match=r"has no file NavierStokes2D_test_\*.h5"):
        smoke.files(tmp_path, "test")


def test_domains_that_do_not_match_their_file_and_failed_solves_are_named(tmp_path):
    path = generate(Job(KDV, 3, size=3), tmp_path, 0)
    with h5py.File(path, "a") as file:
        keep = file["train"]["dx"][1]
        file["train"]["dx"][1] = 2 * keep
    with pytest.raises(DataError, match=r"the domain does not match: x of trajectory 1 is spaced by 1\.\d+, dx says"):
        lpsda.read(path, "kdv")
    with h5py.File(path, "a") as file:
        file["train"]["dx"][1] = keep
        file["train"]["pde_10-64"][2] = 0
    with pytest.raises(DataError, match=r"1 trajectories are all zero .* the first is 2: leave them out by rows"):
        lpsda.read(path, "kdv")
    with h5py.File(path, "a") as file:
        file["train"]["pde_10-64"][2] = np.nan
    with pytest.raises(DataError, match="component 'u' of trajectory 2 is not finite from frame 0 on"):
        lpsda.read(path, "kdv")
    with pytest.raises(DataError, match=r"no entry named 'test'.*Known: facts, train"):
        lpsda.read(path, "kdv", "test")
    (tmp_path / "torn.h5").write_bytes(b"not hdf5")
    with pytest.raises(DataError, match="is not a readable HDF5 file"):
        lpsda.read(tmp_path / "torn.h5", "kdv")


def test_the_published_burgers_field_is_converted_back():
    """u_file = (L / (200 nu)) psi_x / psi = -157.08 u at nu = 0.01, L = 2 pi."""
    u = torch.randn(2, 3, 4, dtype=torch.float64)
    length, nu = torch.full((2,), 2 * np.pi, dtype=torch.float64), torch.full((2,), 0.01, dtype=torch.float64)
    torch.testing.assert_close(lpsda.burgers_of_file(-157.0796327 * u, length, nu), u, atol=1e-7, rtol=1e-7)


def test_the_well_is_written_and_read_whole_and_in_windows(tmp_path):
    flow = Spec("world", "vortex", points=12, frames=7, highest=2, buoyancy=(0.2, 0.5), horizon=1.0)
    job = Job(flow, 3, split="valid", size=2, layout="well")
    paths = finish(job, tmp_path)
    assert paths[0] == tmp_path / "vortex" / "data" / "valid" / "vortex_00000.hdf5"
    field = well.read(paths[0], "boussinesq")
    made = trajectories(flow, key(0, "valid"), range(2))
    for name, values in made.values.items():
        torch.testing.assert_close(field.values[name], values.float())
    assert field.periodic == (True, True)
    with h5py.File(paths[0]) as file:
        assert list(file["t1_fields"].attrs["field_names"]) == ["velocity"]
        assert file["t1_fields"]["velocity"].shape == (2, 7, 12, 12, 2)
        assert file.attrs["n_spatial_dims"] == 2
    windows = well.Windows(paths, steps_in=2, steps_out=1, stride=2, handles=1)
    assert len(windows) == 3 * (7 - 5 + 1)
    item = windows[4]  # trajectory 1, start 1
    assert item["input_fields"].shape == (2, 12, 12, 4)
    names = [*field.values]
    for c, name in enumerate(["s", "p", "vx", "vy"]):  # as in field_names
        assert name in names
        torch.testing.assert_close(item["input_fields"][..., c], field.values[name][1, [1, 3]])
        torch.testing.assert_close(item["output_fields"][0, ..., c], field.values[name][1, 5])
    assert windows[8]["output_fields"].shape == (1, 12, 12, 4)  # the other file
    assert item["boundary_conditions"].tolist() == [[2, 2], [2, 2]]
    with pytest.raises(IndexError, match="window 9 of 9"):
        windows[9]
    windows.close()
    with pytest.raises(DataError, match="has 7 frames, a window of 9 does not fit: ask for fewer steps"):
        well.Windows(paths, steps_in=8)
    with pytest.raises(DataError, match=r"with jitter=0.1 every trajectory of 'kdv' has its own: set jitter=0"):
        Job(KDV, 2, layout="well")
    with pytest.raises(DataError, match="The Well has one 'time' axis a file and these trajectories differ in it"):
        well.write(tmp_path / "kdv.hdf5", trajectories(KDV, 0, range(2)), "train")


def test_worlds_and_layouts_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="world 'smoke' has no 'lpsda' layout: use 'pdearena' or 'well'"):
        Job(BOX, 2)
    with pytest.raises(DataError, match="needs at least one trajectory and one a shard, found count=0, size=32"):
        Job(KDV, 0)


def test_a_zarr_copy_goes_there_and_back(tmp_path):
    pytest.importorskip("zarr")
    from tacit.worlds.pdes.layouts.zarrs import from_zarr, to_zarr

    path = generate(Job(KDV, 2, size=2), tmp_path, 0)
    copy = to_zarr(path, tmp_path / "z")
    back = lpsda.read(from_zarr(copy, tmp_path / "back"), "kdv")
    original = lpsda.read(path, "kdv")
    assert torch.equal(back.values["u"], original.values["u"])
    assert torch.equal(back.parameters["amplitude"], original.parameters["amplitude"])
    with pytest.raises(DataError, match=r"exists already: remove it or choose another folder"):
        to_zarr(path, tmp_path / "z")
    with pytest.raises(DataError, match=r"no Zarr group at .*nowhere.zarr"):
        from_zarr(tmp_path / "nowhere.zarr", tmp_path)
