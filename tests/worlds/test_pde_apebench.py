"""APEBench's layout: written as its scraper writes, read back axis by axis, and what does not fit refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tacit.core.errors import DataError, UnknownNameError
from tacit.core.protocols import Source
from tacit.core.spec import Spec
from tacit.worlds.pdes import apebench


def scraped(folder, name="phy_kdv", axes=1, **info):
    """The three files as `scrape_data_and_metadata` leaves them, made without our writer."""
    points, channels = 6, axes
    random = np.random.default_rng(0)
    for split, n in (("train", 5), ("test", 3)):
        data = random.standard_normal((n, 4, channels, *(points,) * axes), dtype=np.float32)
        np.save(folder / f"{name}_{split}.npy", data)
    meta = {"num_spatial_dims": axes, "num_points": points, "num_channels": channels, "use_jit": True, **info}
    (folder / f"{name}.json").write_text(json.dumps({"name": name, "info": meta}))
    return folder / f"{name}.json"


def test_a_source_maps_the_array_and_knows_its_axes(tmp_path):
    path = scraped(tmp_path, dt=0.25, domain_extent=3.0)
    train = Spec("source", "apebench", path=str(path)).build()
    assert isinstance(train, Source) and train.digest() == Spec("source", "apebench", path=str(path)).build().digest()
    source = Spec("source", "apebench", path=str(path), split="test").build()
    assert len(source) == 3 and source.facts.shape == (4, 6) and "dt" in source.facts.factors
    batch = source.read([2, 0])
    array = np.load(tmp_path / "phy_kdv_test.npy")
    assert np.array_equal(batch.views["image"].data.numpy(), array[[2, 0]].transpose(0, 2, 1, 3))
    assert batch.facts["time"][0].tolist() == [0, 0.25, 0.5, 0.75] and batch.facts["x"][0].tolist() == [
        0,
        0.5,
        1,
        1.5,
        2,
        2.5,
    ]


def test_axes_are_x_then_y_and_scenarios_without_a_domain_are_unit(tmp_path):
    field = apebench.read(scraped(tmp_path, "diff_burgers", axes=2), "train", slice(0, 2))
    array = np.load(tmp_path / "diff_burgers_train.npy")
    assert field.equation == "diff_burgers" and list(field.values) == ["u0", "u1"] and field.periodic == (True, True)
    assert np.array_equal(field.values["u1"][1, 3].numpy(), array[1, 3, 1])
    assert field.time[0, 1] == 1 and float(field.lengths[0][0]) == pytest.approx(1)


def test_what_is_written_is_read_back(tmp_path):
    made = Spec("world", "kdv", points=64, length=32.0, horizon=2.0, frames=5, stored=5).build().generate(0, range(2))
    apebench.write(tmp_path / "mine.json", made, "train", {"dt": 0.5, "domain_extent": 32.0})
    found = apebench.read(tmp_path / "mine.json", "train")
    torch.testing.assert_close(found.values["u"].double(), made.values["u"], rtol=0, atol=1e-6)


def test_what_does_not_fit_is_refused(tmp_path):
    path = scraped(tmp_path)
    with pytest.raises(UnknownNameError, match="no split named 'valid'"):
        Spec("source", "apebench", path=str(path), split="valid").build()
    with pytest.raises(DataError, match=r"a scraped scenario is other\.json with other_train\.npy beside it"):
        apebench.read(tmp_path / "other.json", "train")
    path.write_text(json.dumps({"info": {"num_spatial_dims": 1, "num_points": 7, "num_channels": 1}}))
    with pytest.raises(
        DataError, match=r"shape \(5, 4, 1, 6\) does not match phy_kdv\.json, which says 1 channels on 7 points"
    ):
        apebench.read(path, "train")
    path.write_text("{}")
    with pytest.raises(DataError, match=r"are no scraped scenario \(KeyError\('info'\)\): scrape it again"):
        apebench.read(path, "train")
    path = scraped(tmp_path)
    np.save(tmp_path / "phy_kdv_train.npy", np.full((1, 4, 1, 6), np.nan, dtype=np.float32))
    with pytest.raises(DataError, match="component 'u' of trajectory 0 is not finite from frame 0 on"):
        apebench.read(path, "train")
    with pytest.raises(DataError, match="sample 3 does not exist: there are 3, from 0 to 2"):
        Spec("source", "apebench", path=str(path), split="test").build().read([3])
