"""Two Rooms: random numbers, walls, pictures, paths."""

import math

import pytest
import torch
from scipy.special import iv

from tacit.core import random as core
from tacit.worlds.rooms import all_layouts, bounce, draw, normalise, path_length, random_layouts, roll, stay_put
from tacit.worlds.rooms.draws import keys, normal_pair, truncated_normal, uniform, von_mises
from tacit.worlds.rooms.dynamics import contact_noise
from tacit.worlds.rooms.layouts import Layouts, fixed_layouts
from tacit.worlds.rooms.pictures import draw_dot, draw_walls, normalise_position, unnormalise_position


def free_places(k, layouts, draw_at=50):
    """Uniform positions inside the rooms; those in the wall are put into the middle of the door."""
    place = 4.01 + 55.98 * torch.stack([uniform(k, draw_at), uniform(k, draw_at + 1)], -1)
    door = torch.stack([layouts.wall, layouts.door], -1).double()
    return torch.where(layouts.in_wall(place).unsqueeze(-1), door, place)


@pytest.fixture(scope="module")
def many():
    """6000 worlds with a position near a wall or anywhere, and steps of at most 3.4 pixels; float64."""
    k = keys(torch.arange(6000), 1, "test")
    layouts = random_layouts(k).to(dtype=torch.float64)
    place = free_places(k, layouts)
    near = torch.stack([layouts.wall + 8 * (uniform(k, 60) - 0.5), layouts.door + 14 * (uniform(k, 61) - 0.5)], -1)
    use = (uniform(k, 62) < 0.6) & ~layouts.in_wall(near) & (near > 4.01).all(-1) & (near < 59.99).all(-1)
    place = torch.where(use.unsqueeze(-1), near, place)
    action = 4.8 * torch.stack([uniform(k, 63), uniform(k, 64)], -1) - 2.4
    return k, layouts, place, action


def solid(points, layouts, slack=0.0):
    """Is a point [n k 2] on or beyond a border, or in the wall outside the door?"""
    x, y = points.unbind(-1)
    left, right, low, high = (v.unsqueeze(-1) for v in (layouts.left, layouts.right, layouts.low, layouts.high))
    beyond = (points <= 4 + slack).any(-1) | (points >= 60 - slack).any(-1)
    return beyond | ((x >= left - slack) & (x <= right + slack) & ((y < low + slack) | (y > high - slack)))


def on_the_way(place, action):
    share = torch.linspace(0, 1, 801, dtype=place.dtype)[:, None]
    return place.unsqueeze(1) + share * action.unsqueeze(1)


def test_draws_are_those_of_core_and_do_not_depend_on_their_neighbours():
    ids = torch.tensor([0, 1, 5, 2**40, 2**62])
    k = keys(ids, 3, "rooms", "train")
    for i, one in zip(ids.tolist(), k.tolist(), strict=True):
        assert one % 2**64 == core.key(3, "rooms", "train", i)
        for number in (0, 1, 7, 2**33):
            assert uniform(k, number)[ids.tolist().index(i)].item() == core.uniform(
                core.key(3, "rooms", "train", i), number
            )
    assert torch.equal(uniform(k, torch.tensor(9)), uniform(k, 9))
    assert torch.equal(torch.cat([normal_pair(k[i : i + 1], 4) for i in range(5)]), normal_pair(k, 4))


def test_distributions_have_their_closed_forms():
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    assert von_mises(u, 5.0).cos().mean().item() == pytest.approx(iv(1, 5) / iv(0, 5), abs=1e-5)
    assert von_mises(u, 5.0).mean().item() == pytest.approx(0, abs=1e-9)
    assert von_mises(u, 1e-9).std().item() == pytest.approx(math.pi / 3**0.5, rel=1e-4)  # no concentration: uniform
    length = truncated_normal(u, 1.0, 0.4, 0.2, 1.8)
    phi = math.exp(-2) / (2 * math.pi) ** 0.5
    variance = 0.16 * (1 - 2 * 2 * phi / math.erf(2 / 2**0.5))
    assert length.mean().item() == pytest.approx(1.0, abs=1e-6)
    assert length.var().item() == pytest.approx(variance, rel=1e-3)
    assert length.min() >= 0.2
    assert length.max() <= 1.8
    z = normal_pair(keys(torch.arange(100_000), 0, "z"), 0)
    torch.testing.assert_close(z.mean(0), torch.zeros(2, dtype=torch.float64), rtol=0, atol=5 / 100_000**0.5)
    torch.testing.assert_close(z.T.cov(), torch.eye(2, dtype=torch.float64), rtol=0, atol=5 * (2 / 100_000) ** 0.5)


def test_every_layout_is_equally_likely_and_listed_in_the_published_order():
    known = all_layouts()
    assert len(known) == 1125
    assert (known.wall[0], known.door[0], known.wall[1], known.door[1]) == (20, 10, 20, 11)
    drawn = random_layouts(keys(torch.arange(112_500), 0, "layouts"))
    counts = torch.bincount(((drawn.wall - 20) * 45 + drawn.door - 10).long(), minlength=1125).double()
    assert len(counts) == 1125
    assert ((counts - 100).square() / 100).sum().item() == pytest.approx(1124, abs=5 * (2 * 1124) ** 0.5)  # chi squared


def test_stay_put_moves_exactly_when_the_whole_step_is_free(many):
    """Against a walk along the step in 800 small pieces, which knows no formula."""
    _, layouts, place, action = many
    after = stay_put(place, action, layouts)
    moved = (after != place).any(-1)
    path = on_the_way(place, action)
    torch.testing.assert_close(after[moved], (place + action)[moved])
    assert not solid(path[moved], layouts[moved], -0.01).any()
    stuck = ~moved
    assert solid(path[stuck], layouts[stuck], 0.01).any(1).all()
    assert min(moved.sum(), stuck.sum()) > 400


def test_bounce_is_free_motion_without_contact_and_stays_in_the_rooms(many):
    k, layouts, place, action = many
    noise = contact_noise(k, 0)
    after = bounce(place, action, layouts, noise)
    assert torch.isfinite(after).all()
    path = on_the_way(place, action)
    free = ~solid(path, layouts, 0.01).any(1)
    torch.testing.assert_close(after[free], (place + action)[free], rtol=0, atol=0)
    hit = solid(path, layouts, -0.01).any(1)
    assert (after[hit] != (place + action)[hit]).any(-1).all()
    assert hit.sum() > 400
    assert not solid(after.unsqueeze(1), layouts, -1e-9).any()  # never in the wall, never outside
    first = solid(path, layouts, 0.0).double().argmax(1)
    contact = path[torch.arange(len(path)), first]
    reach = (after - contact)[hit].norm(dim=-1) - 0.5 * noise[hit].norm(dim=-1)
    assert reach.max() < 0.3 + 0.02  # the noise and the inset, plus a piece of the path


@pytest.mark.parametrize("rule", ["stay-put", "bounce"])
@pytest.mark.parametrize("axis", [0, 1])
def test_mirrored_worlds_move_mirrored(many, rule, axis):
    k, layouts, place, action = many
    sign = torch.ones(2, dtype=torch.float64)
    sign[axis] = -1
    offset = torch.zeros(2, dtype=torch.float64)
    offset[axis] = 64
    mirrored = (64 - layouts.wall, layouts.door) if axis == 0 else (layouts.wall, 64 - layouts.door)
    noise = contact_noise(k, 3)

    def move(p, a, where, n):
        return stay_put(p, a, where) if rule == "stay-put" else bounce(p, a, where, n)

    one = move(place, action, layouts, noise)
    two = move(offset + sign * place, sign * action, Layouts(*mirrored), sign * noise)
    torch.testing.assert_close(offset + sign * two, one, rtol=0, atol=1e-9)


def test_axis_aligned_and_whole_numbered_steps_neither_vanish_nor_tunnel():
    """Where the reference's slope dy/dx is 0/0 the dot is lost; where a coordinate lands on a face it is through."""
    layouts = fixed_layouts(4)
    place = torch.tensor([[20.0, 5.0], [20.0, 59.0], [5.0, 40.0], [30.0, 40.0]])
    action = torch.tensor([[0.0, -2.0], [0.0, 2.0], [-2.0, 0.0], [1.0, 0.0]])
    after = bounce(place, action, layouts, torch.ones(4, 2))
    assert torch.isfinite(after).all()
    assert (after > 4).all()
    assert (after < 60).all()
    assert after[3, 0] < 31
    right = torch.tensor([[1.0, 0.0]]).expand(8, 2)
    path = roll(torch.tensor([[28.0, 40.0]]), right.unsqueeze(0), fixed_layouts(1))
    assert path[0, -1].tolist() == [30.0, 40.0]
    through = roll(torch.tensor([[28.0, 18.0]]), right.unsqueeze(0), fixed_layouts(1))
    assert through[0, -1].tolist() == [36.0, 18.0]


def test_picture_shows_the_dot_and_the_walls():
    layouts = Layouts(torch.tensor([32.0, 20.0]), torch.tensor([18.0, 54.0]))
    position = torch.tensor([[10.0, 20.0], [33.3, 41.7]], dtype=torch.float64)
    picture = draw(position, layouts)
    assert picture.shape == (2, 2, 65, 65)
    assert picture[0, 0, 20, 10] == 255  # row is y
    grid = torch.arange(65, dtype=torch.float64)
    squared = (grid - 33.3)[None].square() + (grid - 41.7)[:, None].square()
    exact = (255 * (-squared / (2 * 1.3**2)).exp()).floor()
    assert (picture[1, 0].double() - exact).abs().max() <= 1
    assert (picture[1, 0].double() != exact).float().mean() < 1e-3
    walls = draw_walls(layouts)
    assert set(walls.unique().tolist()) == {0, 255}
    borders = 4 * 65 - 4
    assert (walls == 255).sum((1, 2)).tolist() == [borders + 3 * (65 - 2 - 9)] * 2
    assert (walls[0, 14:23, 31:34] == 0).all()
    assert (walls[0, 13, 31:34] == 255).all()


def test_normalised_values_are_the_published_ones():
    x = normalise(draw(torch.tensor([[20.0, 30.0], [200.0, 200.0]]), fixed_layouts(2)))
    dark = -0.0026 / 0.0369
    assert x[0, 0].min().item() == pytest.approx(dark, abs=1e-4)
    assert x[0, 0].max().item() == pytest.approx((1 - 0.0026) / 0.0369, rel=1e-4)
    assert x[0, 1].unique().tolist() == pytest.approx([-0.331, 3.018], abs=1e-3)
    torch.testing.assert_close(x[1, 0], torch.full((65, 65), dark), rtol=1e-3, atol=1e-4)  # no dot: dark, not NaN
    place = torch.tensor([[3.0, 50.0]])
    torch.testing.assert_close(unnormalise_position(normalise_position(place)), place)


def test_path_length_is_the_least_over_all_ways_through_the_door():
    k = keys(torch.arange(300), 2, "paths")
    layouts = random_layouts(k).to(dtype=torch.float64)
    a, b = free_places(k, layouts, 70), free_places(k, layouts, 80)
    length = path_length(a, b, layouts)
    straight = (a - b).norm(dim=-1)
    assert torch.isfinite(length).all()
    assert (length >= straight - 1e-9).all()
    torch.testing.assert_close(path_length(b, a, layouts), length)
    same = ((a[:, 0] < layouts.left) & (b[:, 0] < layouts.left)) | (
        (a[:, 0] > layouts.right) & (b[:, 0] > layouts.right)
    )
    torch.testing.assert_close(length[same], straight[same])
    across = ((a[:, 0] < layouts.left) & (b[:, 0] > layouts.right)).nonzero().squeeze(-1)
    assert len(across) > 30
    rows = torch.linspace(-4, 4, 161, dtype=torch.float64)
    p, q, wall, door = a[across], b[across], layouts.wall[across, None], layouts.door[across, None]
    y = door + rows
    first = ((p[:, :1] - wall + 1) ** 2 + (p[:, 1:] - y) ** 2).sqrt()
    last = ((q[:, :1] - wall - 1) ** 2 + (q[:, 1:] - y) ** 2).sqrt()
    middle = (4 + (rows[:, None] - rows) ** 2).sqrt()
    brute = (first[:, :, None] + middle + last[:, None]).flatten(1).amin(1)
    assert (length[across] <= brute + 1e-9).all()
    torch.testing.assert_close(length[across], brute, rtol=0, atol=2e-3)  # the grid is 0.05 pixels wide


def test_dot_keeps_leading_axes():
    position = torch.rand(2, 3, 2) * 60
    assert torch.equal(draw_dot(position)[1, 2], draw_dot(position[1, 2]))


@pytest.mark.gpu
def test_the_same_on_a_gpu(many):
    """Integer draws are equal bit by bit; positions up to the rounding of the device's own functions."""
    k, layouts, place, action = many
    there = layouts.to("cuda")
    assert torch.equal(uniform(k.cuda(), 5).cpu(), uniform(k, 5))
    noise = contact_noise(k.cuda(), 2)
    torch.testing.assert_close(noise.cpu(), contact_noise(k, 2))
    torch.testing.assert_close(stay_put(place.cuda(), action.cuda(), there).cpu(), stay_put(place, action, layouts))
    one = bounce(place.cuda(), action.cuda(), there, noise).cpu()
    torch.testing.assert_close(one, bounce(place, action, layouts, contact_noise(k, 2)))
    same = draw(place[:50].cuda(), there[:50]).cpu() == draw(place[:50], layouts[:50])
    assert same.double().mean() > 0.9999
