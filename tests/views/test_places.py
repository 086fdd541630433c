"""Where the cells of a view lie: a picture whose pixels say where they are is rendered, and read back."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import DataError
from tacit.core.spec import Spec
from tacit.core.values import Facts
from tacit.views.places import places


def seen(rng_ids, **settings):
    """Views of pictures whose channels are row and column, as fractions of 64."""
    row, column = torch.meshgrid((torch.arange(64) + 0.5) / 64, (torch.arange(64) + 0.5) / 64, indexing="ij")
    pictures = torch.stack([row, column]).expand(len(rng_ids), 2, 64, 64).contiguous()
    plain = {"jitter": 0.0, "saturation": 0.0, "hue": 0.0, "grey": 0.0, "blur": 0.0}
    view = Spec("view", "image", size=32, **{**plain, **settings}).build(Facts(channels=2))
    return view(pictures, torch.tensor(rng_ids), 0, 0, 0)


@pytest.mark.parametrize("settings", [{"flip": 0.0}, {"flip": 1.0}, {"flip": 0.5, "scale": (0.3, 0.6), "rotate": 30.0}])
def test_places_are_what_the_pixels_say(settings):
    view = seen(list(range(12)), **{"scale": (0.3, 1.0), **settings})
    found = places(view.how, (32, 32)).view(12, 32, 32, 2)
    said = view.data.permute(0, 2, 3, 1) * 64
    middle = slice(11, 21)  # beyond the edges of a turned view there is nothing to read
    torch.testing.assert_close(found[:, middle, middle], said[:, middle, middle], atol=0.6, rtol=0)


def test_a_coarser_grid_lies_in_the_middle_of_its_cells():
    how = seen([3, 4]).how
    fine, coarse = places(how, (8, 8)).view(2, 4, 2, 4, 2, 2), places(how, (4, 4)).view(2, 4, 4, 2)
    torch.testing.assert_close(fine.mean(dim=(2, 4)), coarse)


def test_what_was_not_recorded_is_named():
    with pytest.raises(DataError, match="box, flip, angle are missing"):
        places({}, (2, 2))
