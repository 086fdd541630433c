"""Fields and scalars of a file of The Well come in the order of `field_names`, not in that of HDF5."""

from __future__ import annotations

import torch

from tacit.ops.fields import Field
from tacit.worlds.pdes.layouts import well


def test_items_have_the_order_of_field_names(tmp_path):
    n, t, x = 2, 4, 5
    time, axis = torch.arange(t).double().expand(n, -1), torch.arange(x).double().expand(n, -1)
    values = {name: torch.full((n, t, x), v) for name, v in (("zeta", 1.0), ("alpha", 2.0))}
    known = {"late": torch.tensor([5.0, 6.0]), "early": torch.tensor([7.0, 8.0])}
    path = tmp_path / "one.hdf5"
    well.write(path, Field("own", values, time, (axis,), (True,), known), "train")
    item = well.Windows([path], 1, 1)[0]
    assert item["input_fields"][0, 0].tolist() == [1, 2]
    assert item["constant_scalars"].tolist() == [5, 7]
