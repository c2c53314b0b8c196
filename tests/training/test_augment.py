"""What would teach a network something else than the cell: changes that mix images, fill corners or stain the frame."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.training.image_samples import in_memory
from training.networks.augment import (
    CHUNK,
    StainJitter,
    augment,
    augmentation,
    grayed,
    restained,
    standardized,
)
from training.networks.cell_network import viewed

SIDE = 32


def _images(count: int = 11) -> Tensor:
    """Return different images, float in 0..255; no number of them fills whole chunks."""
    return torch.from_numpy(in_memory(count, SIDE).pixels).permute(0, 3, 1, 2).float()


def _framed(count: int = 5) -> Tensor:
    """Return cells on black, as a segmented collection has them."""
    images = _images(count)
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, SIDE)] * 2, indexing="ij")
    return images.clamp(min=20) * (y**2 + x**2 < 0.8)


def _turns(image: Tensor) -> set[bytes]:
    """Return the eight ways to turn and mirror a square."""
    turned = [torch.rot90(image, turn, (1, 2)) for turn in range(4)]
    return {each.numpy().tobytes() for one in turned for each in (one, one.flip(2))}


@pytest.mark.parametrize("strength", [0.0, 1.0])
@pytest.mark.parametrize("count", [1, CHUNK + 3])
def test_shape_and_range_stay(strength: float, count: int) -> None:
    images = _images(count)
    before = images.clone()
    torch.manual_seed(0)
    for _ in range(5):
        changed = augment(images, augmentation(strength, SIDE))
        assert changed.shape == images.shape and changed.dtype == torch.float32
        assert torch.isfinite(changed).all() and changed.min() >= 0 and changed.max() <= 255
    assert torch.equal(images, before), "the images themselves were changed"


def test_without_strength_images_are_turned_in_all_eight_ways_and_no_pixel_is_made_up() -> None:
    images = _images(CHUNK + 1)
    first, last = _turns(images[0]), _turns(images[-1])
    torch.manual_seed(0)
    changed = [augment(images, augmentation(0.0, SIDE)).numpy() for _ in range(120)]
    assert {each[0].tobytes() for each in changed} == first and {each[-1].tobytes() for each in changed} <= last


def test_every_image_stays_at_its_own_row() -> None:
    codes = torch.arange(24) % 3
    images = torch.full((24, 3, SIDE, SIDE), 60.0)
    images[torch.arange(24), codes] = 180  # one channel of each image is bright
    torch.manual_seed(0)
    for _ in range(10):
        changed = augment(images, augmentation(1.0, SIDE))
        assert torch.equal(changed.mean(dim=(2, 3)).argmax(dim=1), codes)


def test_images_are_stained_each_in_its_own_way_and_the_black_frame_of_a_cell_not() -> None:
    same, framed = _images(1).expand(CHUNK, -1, -1, -1), _framed()
    frame = framed.amax(dim=1) == 0
    torch.manual_seed(0)
    changed = augment(same, StainJitter(0.12))
    assert not any(torch.allclose(other, changed[0]) for other in changed[1:])
    assert (changed - same).abs().mean() > 1
    for _ in range(20):
        assert torch.equal(StainJitter(0.12)(framed).amax(dim=1) == 0, frame)


@settings(max_examples=50, deadline=None)
@given(
    scale=st.lists(st.floats(0.3, 2.0), min_size=3, max_size=3),
    shift=st.lists(st.floats(-0.8, 0.8), min_size=3, max_size=3),
)
def test_any_stain_keeps_range_frame_and_the_order_of_shades(scale: list[float], shift: list[float]) -> None:
    gray = torch.arange(8, 256, dtype=torch.float32).view(1, 1, 1, -1).expand(1, 3, 1, -1)
    changed = restained(gray, torch.tensor(scale).view(1, 3, 1, 1), torch.tensor(shift).view(1, 3, 1, 1))
    assert torch.isfinite(changed).all() and changed.min() >= 0 and changed.max() <= 255
    assert (changed.diff(dim=3) >= -1e-3).all(), "a darker shade became the lighter one"


def test_gray_and_standard_colors_do_not_tell_how_the_smear_was_lit_or_stained() -> None:
    images = _images().clamp(20, 200)
    gray, standard = grayed(images), standardized(images)
    assert gray.shape == images.shape and gray.flatten(1).std(dim=1).min() > 10
    assert torch.equal(gray[:, 0], gray[:, 1]) and torch.equal(gray[:, 0], gray[:, 2])
    assert not torch.equal(standard[:, 0], standard[:, 1]), "channels lie apart as they did"
    assert (standard.mean(dim=(2, 3)) - 120).abs().max() < 5
    scale, shift = torch.tensor([[0.8, 0.9, 1.1], [12.0, -8.0, 20.0]]).view(2, 1, 3, 1, 1)
    torch.testing.assert_close(standardized(images * scale + shift), standard, rtol=0, atol=0.1)
    for changed in (images * 0.8 + 9, images + shift):
        torch.testing.assert_close(grayed(changed), gray, rtol=0, atol=0.1)


@pytest.mark.parametrize("change", [grayed, standardized])
def test_gray_and_standard_colors_of_an_image_depend_neither_on_the_others_nor_on_its_frame(
    change: Callable[[Tensor], Tensor],
) -> None:
    images = _framed()
    whole = change(images)
    torch.testing.assert_close(torch.cat([change(image[None]) for image in images]), whole)
    frame = images.amax(dim=1) == 0
    assert (whole.amax(dim=1)[frame] == 0).all()
    cut = images[:, :, 2:-2, 2:-2]
    inside = cut.amax(dim=1, keepdim=True) > 0
    assert not frame[:, 2:-2, 2:-2].all()
    whole_cell = (images.amax(dim=1) > 0).sum((1, 2)) == inside[:, 0].sum((1, 2))
    torch.testing.assert_close(change(cut)[whole_cell], whole[:, :, 2:-2, 2:-2][whole_cell], rtol=0, atol=1e-3)
    blank = change(torch.tensor([0.0, 7.0, 255.0]).view(3, 1, 1, 1).expand(3, 3, 8, 8))
    assert torch.isfinite(blank).all() and blank.min() >= 0 and blank.max() <= 255


def test_eight_views_are_the_eight_turns() -> None:
    image = _images(1)
    assert torch.equal(viewed(image, 0, 1.0), image)
    plain, strong = (
        [viewed(image, view, strength)[0].numpy().tobytes() for view in range(16)] for strength in (0.0, 1.0)
    )
    assert set(plain[:8]) == set(plain) == _turns(image[0])
    assert len(set(plain)) == 8 and len(set(strong)) == 16


@pytest.mark.parametrize("view", [1, 6])
def test_a_view_is_the_same_for_every_image_every_time(view: int) -> None:
    images = _images()
    torch.manual_seed(1)
    whole = viewed(images, view, 0.5)
    torch.manual_seed(2)
    apart = torch.cat([viewed(image[None], view, 0.5) for image in images])
    torch.testing.assert_close(apart, whole)
    assert not torch.allclose(viewed(images, view, 1.0), whole)
    state = torch.get_rng_state()
    viewed(images, view, 0.5)
    assert torch.equal(torch.get_rng_state(), state), "a cached view would draw otherwise than one made anew"


def test_a_view_of_a_cell_on_black_keeps_its_frame() -> None:
    for view in range(8):
        changed, plain = (viewed(_framed(), view, strength).amax(dim=1) for strength in (1.0, 0.0))
        assert torch.equal(changed == 0, plain == 0)
