"""RandAugment and erasing: operations are timm's at every strength, draws have the published laws, views replay bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from timm.data import auto_augment as theirs

from tacit.core.errors import RecipeError
from tacit.core.spec import Spec
from tacit.core.values import Facts
from tacit.views.policy import OPERATIONS, operate

RGB = Facts(channels=3, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
FILL = (124, 116, 104)
THEIRS = dict(zip(OPERATIONS, theirs._RAND_INCREASING_TRANSFORMS, strict=True))


def pictures(n=6, c=3, side=40, seed=0):
    rng = torch.Generator().manual_seed(seed)
    x = torch.nn.functional.interpolate(torch.rand(n, c, 5, 5, generator=rng), (side, side), mode="bilinear")
    return ((x + 0.1 * torch.randn(x.shape, generator=rng)).clamp(0, 1) * 255).to(torch.uint8)


def view(facts=RGB, size=24, **settings):
    return Spec("view", "rand-augment", size=size, **settings).build(facts)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_operation_is_timms_at_every_strength_and_in_both_directions(name, channels, monkeypatch):
    pixels = pictures(1, channels)[0].permute(1, 2, 0).numpy()
    picture = Picture.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    call, level = theirs.NAME_TO_OP[THEIRS[name]], theirs.LEVEL_TO_ARG[THEIRS[name]]
    two_ways = name in ("color", "contrast", "brightness", "sharpness") or name.startswith(
        ("rotate", "shear", "translate")
    )
    seen = set()
    for sign in (1, -1) if two_ways else (1,):
        monkeypatch.setattr(theirs.random, "random", lambda sign=sign: 0.0 if sign > 0 else 1.0)
        for strength in (0.0, 0.4, 5.0, 8.75, 10.0):
            settings = {"fillcolor": FILL if channels == 3 else FILL[0], "resample": Picture.Resampling.BICUBIC}
            expected = call(picture, *(level(strength, {}) if level else ()), **settings)
            found = np.array(operate(picture, name, sign * strength, FILL))
            np.testing.assert_array_equal(found, np.array(expected))
            seen.add(found.tobytes())
    if name not in ("auto-contrast", "equalize", "invert") and not (channels == 1 and name == "color"):
        assert len(seen) > 1  # the strength does something


def test_draws_have_the_published_laws_and_belong_to_the_sample():
    made = view(layers=3)
    images, ids = pictures(1).expand(4000, 3, 40, 40), torch.arange(4000)
    how = made.sample(images, ids, 0, 0, 0)
    acts = how["operation"] >= 0
    assert abs(acts.float().mean() - 0.5) < 0.02
    count = torch.bincount(how["operation"][acts], minlength=15).double() / acts.sum()
    assert (count - 1 / 15).abs().max() < 0.012
    size = how["strength"][acts].abs()
    assert size.max() == 10 and (size == 10).double().mean() == pytest.approx(
        0.0228, abs=0.008
    )  # two deviations above 9
    assert size.median() == pytest.approx(9, abs=0.03) and size.std() == pytest.approx(0.49, abs=0.02)
    one_way = torch.tensor(
        [name.split("-")[0] in ("auto", "equalize", "invert", "posterize", "solarize") for name in OPERATIONS]
    )
    positive = how["strength"][acts] > 0
    assert positive[one_way[how["operation"][acts]]].all()
    assert abs(positive[~one_way[how["operation"][acts]]].float().mean() - 0.5) < 0.03
    tall, wide = how["erase"][:, 2].double(), how["erase"][:, 3].double()
    erased = tall > 0
    assert abs(erased.double().mean() - 0.25) < 0.025
    area = (tall * wide)[erased] / 24**2
    assert area.min() > 0.01 and area.max() < 0.36
    assert (how["erase"][:, :2] + how["erase"][:, 2:] <= 24).all()
    some = torch.tensor([17, 3, 3999])
    alone = made.sample(images[:3], some, 0, 0, 0)
    assert all(torch.equal(values[some], alone[name]) for name, values in how.items())
    assert not torch.equal(made.sample(images, ids, 0, 1, 0)["operation"], how["operation"])


def test_a_view_replays_bit_for_bit_and_is_noise_where_it_was_erased():
    images, ids = pictures(32), torch.arange(32)
    made = view(erasing=1.0)
    one = made(images, ids, 3, 1, 0)
    assert one.data.dtype == torch.float32 and one.data.shape == (32, 3, 24, 24)
    assert torch.equal(made.apply(images, one.how), one.data)
    back = torch.arange(31, -1, -1)
    assert torch.equal(made(images[back], ids[back], 3, 1, 0).data[back], one.data)
    whole = made.apply(images, one.how | {"erase": torch.zeros(32, 4, dtype=torch.int64)})
    noise = []
    for i, (top, left, height, width) in enumerate(one.how["erase"].tolist()):
        mask = torch.zeros(24, 24, dtype=torch.bool)
        mask[top : top + height, left : left + width] = True
        assert torch.equal(one.data[i][:, ~mask], whole[i][:, ~mask])
        noise.append(one.data[i][:, mask].flatten())
    values = torch.cat(noise)
    assert abs(values.mean()) < 0.03 and abs(values.std() - 1) < 0.03


@pytest.mark.parametrize("facts", [RGB, Facts(channels=5)])
def test_without_operations_and_erasing_it_is_the_bicubic_crop(facts):
    images, ids = pictures(c=facts.channels), torch.arange(6)
    plain = Spec("view", "image", size=24, interpolation="bicubic", jitter=0.0, grey=0.0, blur=0.0).build(facts)
    made = view(facts, layers=0, erasing=0.0)
    torch.testing.assert_close(made(images, ids, 0, 0, 0).data, plain(images, ids, 0, 0, 0).data, rtol=0, atol=2e-6)
    assert torch.equal(made.plain(images, 0.875), plain.plain(images, 0.875))


def test_what_it_cannot_do_is_said():
    with pytest.raises(RecipeError) as error:
        view(Facts(channels=5))
    assert str(error.value) == (
        "view 'rand-augment': its operations are those of pictures of 1 or 3 channels, these have 5: take view=image, or layers=0 for "
        "crops and erasing alone"
    )
