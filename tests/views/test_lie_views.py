"""Lie views of batches: recorded, repeatable, independent of the batch, equal to transforming the whole and cropping."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import DataError, RecipeError
from tacit.core.protocols import Views
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View
from tacit.ops.fields import Field
from tacit.views.lie import BURGERS, KDV, NAVIER_STOKES, fused, transform
from tacit.views.lie.sample import draw

F = torch.float64
LINE, PLANE = Facts(channels=1, shape=(20, 16)), Facts(channels=3, shape=(12, 8, 10))


def line(n=5, first=0) -> Batch:
    rng = torch.Generator().manual_seed(3)
    data = torch.randn(8, 1, 20, 16, generator=rng)[first : first + n]
    facts = {"time": torch.linspace(1, 3, 20, dtype=F).expand(n, -1), "x": torch.arange(16, dtype=F).expand(n, -1)}
    return Batch({"image": View(data)}, torch.arange(first, first + n), facts=facts)


def plane(n=3) -> Batch:
    rng = torch.Generator().manual_seed(3)
    data = torch.randn(n, 3, 12, 8, 10, generator=rng)
    facts = {"time": torch.linspace(1, 3, 12, dtype=F).expand(n, -1)}
    facts |= {"x": torch.arange(8, dtype=F).expand(n, -1) / 4, "y": torch.arange(10, dtype=F).expand(n, -1) / 4}
    return Batch({"image": View(data)}, torch.arange(n), facts=facts)


def views(kind="lie-line", facts=LINE, **settings):
    return Spec("views", kind, **settings).build(facts)


def test_they_are_views_with_the_shape_an_encoder_will_see():
    made = views(crop=(8, 0))
    assert isinstance(made, Views)
    assert (made.facts.channels, made.facts.shape) == (3, (8, 16))
    out = made(line(), 0, 0)
    assert set(out.views) == {"a", "b"}
    assert out.views["a"].data.shape == (5, 3, 8, 16)
    flat = views("lie-plane", PLANE, crop=(4, 8, 10))
    assert (flat.facts.channels, flat.facts.shape) == (20, (8, 10))
    assert flat(plane(), 0, 0).views["b"].data.shape == (3, 20, 8, 10)


def test_a_view_is_a_function_of_seed_epoch_id_and_view_alone():
    made = views(crop=(8, 8))
    whole, part = made(line(5), 1, 2), made(line(2, first=3), 1, 2)
    for name in ("a", "b"):
        assert torch.equal(whole.views[name].data[3:], part.views[name].data)
        assert torch.equal(whole.views[name].how["g"][3:], part.views[name].how["g"])
    other = made(line(5), 1, 3)
    assert not torch.equal(other.views["a"].how["g"], whole.views["a"].how["g"])
    assert not torch.equal(whole.views["a"].how["g"], whole.views["b"].how["g"])


@pytest.mark.parametrize("wide", [128, 130])  # rows of 130 numbers do not line up and go through the cache
def test_a_batch_written_past_the_cache_is_its_samples_one_by_one(wide):
    size = (4, 128, wide)
    facts = {name: torch.rand(4, s, dtype=F).cumsum(1) for name, s in zip(("time", "x", "y"), size, strict=True)}
    batch = Batch({"image": View(torch.randn(4, 3, *size))}, torch.arange(4), facts=facts)
    made = views("lie-plane", Facts(channels=3, shape=size), crop=size)
    whole = made(batch, 0, 0).views["a"].data
    assert whole.nbytes > fused._PAST > whole[0].nbytes
    for i in range(4):
        one = Batch({"image": View(batch.views["image"].data[i : i + 1])}, torch.tensor([i]),
                    facts={name: x[i : i + 1] for name, x in facts.items()})  # fmt: skip
        assert torch.equal(whole[i], made(one, 0, 0).views["a"].data[0])


def test_a_view_is_the_transformed_whole_cropped_as_recorded():
    batch = line()
    view = views(crop=(8, 10), length=16.0)(batch, 5, 0).views["a"]
    whole = Field(
        "kdv", {"u": batch.views["image"].data[:, 0].double()}, batch.facts["time"], (batch.facts["x"],), (True,)
    )
    moved = transform(whole, KDV.element(view.how["g"])).full()
    for i, (t, x) in enumerate(view.how["start"].tolist()):
        for channel, values in enumerate((moved.values["u"], moved.space[0], moved.time)):
            torch.testing.assert_close(
                view.data[i, channel].double(), values[i, t : t + 8, x : x + 10], atol=1e-5, rtol=1e-5
            )


def test_the_plane_stacks_the_frames_of_x_y_t_vx_vy():
    batch = plane()
    view = views("lie-plane", PLANE, crop=(4, 8, 10), quadratic_x=0.3, rotation=0.5)(batch, 5, 0).views["b"]
    data = batch.views["image"].data.double()
    whole = Field("navier-stokes", {"vx": data[:, 1], "vy": data[:, 2]}, batch.facts["time"],
                  (batch.facts["x"], batch.facts["y"]), (True, True))  # fmt: skip
    moved = transform(whole, NAVIER_STOKES.element(view.how["g"])).full()
    for i, (t, _, _) in enumerate(view.how["start"].tolist()):
        for c, values in enumerate((*moved.space, moved.time, moved.values["vx"], moved.values["vy"])):
            torch.testing.assert_close(
                view.data[i, 4 * c : 4 * c + 4].double(), values[i, t : t + 4], atol=1e-5, rtol=1e-5
            )


def test_the_released_layout_lays_x_along_the_last_axis():
    square = Facts(channels=3, shape=(6, 5, 5))
    data = torch.randn(2, 3, 6, 5, 5)
    axis = torch.arange(5, dtype=F).expand(2, -1)
    batch = Batch(
        {"image": View(data)},
        torch.arange(2),
        facts={"time": torch.arange(6, dtype=F).expand(2, -1), "x": axis, "y": axis},
    )
    still = dict.fromkeys(
        ("shift_x", "shift_y", "scale", "rotation", "linear_x", "linear_y", "quadratic_x", "quadratic_y"), 0.0
    )
    ours, theirs = (
        views("lie-plane", square, crop=(6, 5, 5), compat=c, **still).plain(batch).views["image"].data
        for c in ("correct", "official")
    )
    torch.testing.assert_close(ours[:, :6], theirs[:, :6].transpose(-1, -2))
    torch.testing.assert_close(ours[:, 12:], theirs[:, 12:])
    torch.testing.assert_close(theirs[0, 0], axis[0].float().expand(5, 5))


def test_plain_is_the_first_crop_unmoved():
    made = views(crop=(8, 0))
    batch = line()
    image = made.plain(batch).views["image"]
    torch.testing.assert_close(image.data[:, 0], batch.views["image"].data[:, 0, :8])
    torch.testing.assert_close(image.data[:, 2, :, 0], batch.facts["time"][:, :8].float())
    assert float(image.how["g"].abs().max()) == 0.0


def test_draws_fill_their_ranges_and_time_only_forward():
    g = draw(NAVIER_STOKES, {"time": 2.0, "rotation": 0.1}, 0, 0, range(400), 0)
    column = NAVIER_STOKES.index
    assert 0 <= float(g[:, column("time")].min()) < 0.1 < 1.9 < float(g[:, column("time")].max()) <= 2
    assert -0.1 <= float(g[:, column("rotation")].min()) < -0.09 < 0.09 < float(g[:, column("rotation")].max()) <= 0.1
    assert float(g[:, column("scale")].abs().max()) == 0.0
    weaker = draw(NAVIER_STOKES, {"rotation": 0.1}, 0, 0, range(400), 0)
    assert torch.equal(weaker[:, column("rotation")], g[:, column("rotation")])


def test_projective_elements_that_leave_the_sample_are_drawn_again():
    time = torch.linspace(0, 18, 10, dtype=F).expand(50, -1)
    g = draw(BURGERS, {"projective": 0.08}, 0, 0, range(50), 0, time)
    assert bool((1 - g[:, BURGERS.index("projective")] * 18 > 0).all())
    with pytest.raises(
        DataError, match=r"16 draws in a row sent one of its times to infinity: lower the projective strength 1e\+09"
    ):
        draw(BURGERS, {"projective": 1e9}, 0, 0, range(50), 0, time - 9)


def test_settings_and_batches_that_do_not_fit_are_refused():
    with pytest.raises(RecipeError, match="scale: Kuramoto-Sivashinsky has no scaling symmetry, set scale=0"):
        Spec("views", "lie-line", equation="ks").resolve()
    with pytest.raises(RecipeError, match="projective: only Burgers has this symmetry, found equation='kdv'"):
        Spec("views", "lie-line", projective=0.1).resolve()
    with pytest.raises(RecipeError, match="components: needs 'vy', found s, vx"):
        Spec("views", "lie-plane", components=("s", "vx")).resolve()
    with pytest.raises(DataError, match="crop of 30 does not fit axis 0 of size 20"):
        views(crop=(30, 0))
    with pytest.raises(DataError, match="Lie views need samples of the shape"):
        views(facts=Facts(channels=1, shape=None))
    batch = line()
    bare = Batch(batch.views, batch.ids)
    with pytest.raises(DataError, match="views of kdv need the coordinate 'time' among the facts of the batch"):
        views()(bare, 0, 0)
    short = Batch(batch.views, batch.ids, facts={**batch.facts, "x": batch.facts["x"][:, 1:]})
    with pytest.raises(
        DataError, match=r"coordinate 'x' has shape \(5, 15\), the fields say \(5, 16\): the file and its domain"
    ):
        views()(short, 0, 0)
