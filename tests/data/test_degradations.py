"""Degradations keep their promises about size, place and colour, and the same key gives the same pixels."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageStat
from scipy.stats import binomtest, norm

from vigos_cli.data.degradations import (
    WORDS,
    black_like,
    blurred,
    crop_box,
    degraded,
    downscale,
    downscale_and_jitter,
    mask_rectangle,
    noise_like,
    one_sharp_region,
    picture_source,
    red_box,
    shrink_on_black,
)
from vigos_cli.data.images import MAX_RATIO, MAX_SIDE, MIN_SIDE, usable
from vigos_cli.utils.errors import ConfigError

# Random pixels between 60 and 199, so none is black, and neighbours differ everywhere.
PICTURE = Image.fromarray(np.random.default_rng(0).integers(60, 200, (100, 140, 3), dtype=np.uint8))
STATED = {"downscale", "downscale_and_jitter"}  # words that change the size


def same(one: Image.Image, two: Image.Image) -> bool:
    return one.size == two.size and one.tobytes() == two.tobytes()


def see(sees: Any, picture: Image.Image = PICTURE, *, seed: int = 0, id: str = "a") -> Image.Image:
    (image,) = degraded([picture], sees, seed=seed, sample_id=id)
    return image


def black_pixels(image: Image.Image) -> np.ndarray:
    return (np.asarray(image) == 0).all(-1)


def bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.where(mask.any(1))[0], np.where(mask.any(0))[0]
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


# ---------------------------------------------------------------- every word


@pytest.mark.parametrize("word", list(WORDS))
def test_the_same_key_gives_the_same_pixels_and_the_picture_is_left_as_it_is(word):
    before = PICTURE.tobytes()
    first = see(word)
    assert first.mode == "RGB" and same(first, see(word)) and before == PICTURE.tobytes()
    if word in ("black", "blur"):
        return
    others = [see(word, id="b"), see(word, seed=1), degraded([PICTURE] * 2, word, seed=0, sample_id="a")[1]]
    assert not any(same(first, other) for other in others)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(list(WORDS)),
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from(["RGB", "L", "RGBA"]),
    st.integers(0, 99),
)
def test_results_are_rgb_and_never_smaller_than_a_visual_token(word, width, height, mode, seed):
    image = see(word, Image.new(mode, (width, height)), seed=seed)
    assert image.mode == "RGB"
    assert image.width >= min(width, MIN_SIDE) and image.height >= min(height, MIN_SIDE)
    assert image.width <= width and image.height <= height
    assert word in STATED or image.size == (width, height)


@pytest.mark.parametrize("word", list(WORDS))
def test_the_largest_picture_can_be_changed(word):
    size = (MAX_SIDE, MAX_SIDE // MAX_RATIO + 1)
    image = see(word, Image.new("RGB", size, "red"))
    usable(image, counts := {})
    assert not counts


# ---------------------------------------------------------------- black, noise, blur


def test_black_and_noise_have_the_size_and_nothing_of_the_picture():
    assert black_like(PICTURE).getextrema() == ((0, 0),) * 3
    assert same(noise_like(PICTURE, 7), noise_like(Image.new("RGB", PICTURE.size), 7))
    assert noise_like(PICTURE, 7).getextrema() == ((0, 255),) * 3


def test_the_noise_of_the_first_picture_is_that_of_the_control():
    """`perception_image=noise` drew it with the seed and the sample's name only."""
    first, second = degraded([PICTURE, PICTURE], "noise", seed=3, sample_id="x")
    assert same(first, noise_like(PICTURE, 3, "x")) and not same(first, second)


def test_a_blur_is_that_of_a_normal_density_of_fifteen_pixels():
    edge = Image.new("RGB", (200, 40))
    edge.paste((255, 255, 255), (100, 0, 200, 40))
    soft = np.asarray(blurred(edge))[20, :, 0].astype(float)
    # The edge is between two pixels. Pillow comes near a normal density by averages over boxes.
    for away in (-30, -15, -5, 0, 5, 15, 30):
        between = (soft[99 + away] + soft[100 + away]) / 2
        assert between == pytest.approx(255 * norm.cdf(away / 15), abs=3)
    assert soft[20] == 0 and soft[180] == 255
    flat = Image.new("RGB", (50, 50), (9, 90, 200))
    assert same(blurred(flat), flat)


# ---------------------------------------------------------------- a mask


def test_a_mask_is_one_black_rectangle_of_a_third():
    for seed in range(60):
        masked = mask_rectangle(PICTURE, seed=seed)
        black = black_pixels(masked)
        left, top, right, bottom = bounds(black)
        width, height = int(right - left), int(bottom - top)
        assert black.sum() == width * height  # nothing outside is black, nothing inside is not
        assert abs(width * height - 140 * 100 / 3) <= width / 2 + 1  # the height is within half a pixel
        assert 0.5 - 0.02 <= width / height <= 2 + 0.04
        assert np.array_equal(np.asarray(masked)[~black], np.asarray(PICTURE)[~black])


def test_masks_of_many_seeds_reach_all_places_and_shapes():
    found = [bounds(black_pixels(mask_rectangle(PICTURE, seed=seed))) for seed in range(200)]
    shapes = [(right - left) / (bottom - top) for left, top, right, bottom in found]
    assert min(shapes) < 0.6 and max(shapes) > 1.8 and 80 < sum(shape < 1 for shape in shapes) < 120
    assert min(left for left, *_ in found) <= 2 and max(right for *_, right, _ in found) >= 138
    assert min(top for _, top, *_ in found) <= 2 and max(bottom for *_, bottom in found) >= 98


def test_pictures_of_one_size_are_masked_at_the_same_place_unless_the_seed_is_null():
    other = Image.new("RGB", PICTURE.size, "white")
    fixed = {"mask": "image", "area": 0.25, "seed": 4}
    masks = [black_pixels(see(fixed, picture, id=id)) for picture in (PICTURE, other) for id in "abc"]
    assert all(np.array_equal(masks[0], mask) for mask in masks)
    assert not np.array_equal(masks[0], black_pixels(see({**fixed, "seed": 5})))
    drawn = [black_pixels(see({"mask": "image", "seed": None}, id=id)) for id in "abc"]
    assert not any(np.array_equal(drawn[0], mask) for mask in drawn[1:])
    again = black_pixels(see({"mask": "image", "seed": None}))
    assert np.array_equal(drawn[0], again)


@pytest.mark.parametrize(("size", "area"), [((2800, 28), 1 / 3), ((28, 2800), 0.5), ((50, 40), 1.0)])
def test_a_mask_in_a_narrow_picture_covers_its_short_side(size, area):
    masked = mask_rectangle(Image.new("RGB", size, "white"), area)
    left, top, right, bottom = bounds(black_pixels(masked))
    short = 0 if size[0] < size[1] else 1
    assert ((right - left), (bottom - top))[short] == size[short]
    assert black_pixels(masked).sum() == pytest.approx(area * size[0] * size[1], abs=max(size))


@pytest.mark.parametrize("area", [0, -0.1, 1.1])
def test_a_mask_of_no_share_is_refused(area):
    with pytest.raises(ValueError, match="a share above 0"):
        mask_rectangle(PICTURE, area)


# ---------------------------------------------------------------- degradations


def test_downscaled_pictures_have_three_to_six_tenths_of_the_sides():
    shares = [downscale(PICTURE, seed).width / 140 for seed in range(200)]
    assert 0.295 <= min(shares) < 0.32 and 0.58 < max(shares) <= 0.605
    for seed in range(20):
        small = downscale(PICTURE, seed)
        assert abs(small.height / 100 - small.width / 140) < 0.01
    flat = downscale(Image.new("RGB", (200, 200), (10, 200, 30)), 0)
    assert flat.getextrema() == ((10, 10), (200, 200), (30, 30))


def test_a_shrunk_picture_lies_whole_on_black():
    white = Image.new("RGB", (100, 140), "white")
    places = set()
    for seed in range(100):
        shown = ~black_pixels(shrink_on_black(white, seed))
        left, top, right, bottom = bounds(shown)
        assert shown.sum() == (right - left) * (bottom - top)
        assert 0.395 <= (right - left) / 100 <= 0.805
        assert abs((right - left) / 100 - (bottom - top) / 140) < 0.01
        places.add((left, top))
    assert len(places) > 50


def test_one_region_stays_sharp_and_the_rest_loses_detail():
    for seed in range(40):
        result = one_sharp_region(PICTURE, seed)
        kept = (np.asarray(result) == np.asarray(PICTURE)).all(-1)
        # Random pixels rarely survive a reduction, so rows with many equal pixels belong to the region.
        rows, columns = kept.mean(1) > 0.2, kept.mean(0) > 0.2
        assert kept[np.ix_(rows, columns)].all() and kept[~rows].mean() < 0.01
        assert 0.14 <= rows.sum() * columns.sum() / kept.size <= 0.36
        outside = [np.asarray(image)[~rows].astype(float).std() for image in (result, PICTURE)]
        assert outside[0] < 0.9 * outside[1]


def test_a_jittered_picture_is_a_downscaled_one_with_each_change_half_of_the_time():
    """On three flat pictures the changes can be told apart by what they do."""
    grey = Image.new("RGB", (60, 60), (100, 100, 100))  # only brightness changes a flat grey
    coloured = Image.new("RGB", (60, 60), (150, 100, 50))  # brightness and saturation, never contrast alone
    n, brightened, saturated = 400, 0, 0
    for seed in range(n):
        assert downscale_and_jitter(grey, seed).size == downscale(grey, seed).size
        (level,) = ImageStat.Stat(downscale_and_jitter(grey, seed)).mean[:1]
        assert 59 <= level <= 141
        brightened += level not in (99, 100, 101)
        red, _, blue = ImageStat.Stat(downscale_and_jitter(coloured, seed)).mean
        saturated += abs((red - blue) - 100 * level / 100) > 3  # the spread beyond that of the brightness
    assert binomtest(brightened, n, 0.5).pvalue > 1e-3
    # Saturation or contrast, each with one half: three of four, less the changes too small to see here.
    assert 0.6 < saturated / n < 0.8


# ---------------------------------------------------------------- boxes


def test_a_red_box_colours_its_border_only():
    box = (20, 10, 60, 50)
    result = np.asarray(red_box(PICTURE, box, width=2))
    changed = (result != np.asarray(PICTURE)).any(-1)
    expected = np.zeros((100, 140), bool)
    expected[10:50, 20:60] = True
    expected[12:48, 22:58] = False
    assert np.array_equal(changed, expected)
    assert (result[expected] == (255, 0, 0)).all()


def test_a_red_box_grows_with_the_picture_and_ends_at_its_edge():
    wide = red_box(Image.new("RGB", (1600, 100)), (0, 0, 1600, 100))
    red = (np.asarray(wide) == (255, 0, 0)).all(-1)
    assert red[50, :10].all() and red[50, 10:1590].sum() == 0
    small = np.asarray(red_box(Image.new("RGB", (84, 84)), (56, -9, 900, 28)))
    assert (small[0, 56:] == (255, 0, 0)).all() and (small[1:27, 83] == (255, 0, 0)).all()
    assert small[1:27, 57:83].sum() == 0


@pytest.mark.parametrize("cut", [red_box, crop_box])
@pytest.mark.parametrize("box", [(5, 5, 5, 9), (140, 0, 150, 9), (0, -5, 9, 0), (9, 9, 3, 12)])
def test_a_box_without_a_pixel_is_refused(cut, box):
    with pytest.raises(ValueError, match="has no pixel of a picture of 140 x 100"):
        cut(PICTURE, box)


def test_a_crop_is_the_part_in_the_box_enlarged():
    quarters = Image.new("RGB", (100, 100), "red")
    quarters.paste((0, 0, 255), (60, 20, 100, 60))
    crop = crop_box(quarters, (60, 20, 100, 60))
    assert crop.size == (80, 80) and crop.getextrema() == ((0, 0), (0, 0), (255, 255))
    assert crop_box(quarters, (60, 20, 100, 60), factor=3).size == (120, 120)
    assert same(crop_box(PICTURE, (20, 10, 60, 50), factor=1), PICTURE.crop((20, 10, 60, 50)))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_every_crop_can_be_used_and_has_the_box(data):
    width, height = data.draw(st.integers(28, 400)), data.draw(st.integers(28, 400))
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))
    picture = Image.new("RGB", (width, height))
    picture.paste((255, 255, 255), (left, top, right, bottom))
    crop = crop_box(picture, (left, top, right, bottom))
    usable(crop, counts := {})
    assert not counts and crop.width >= 2 * (right - left) and crop.height >= 2 * (bottom - top)
    white = np.asarray(crop.convert("L")).astype(float).sum() / 255
    assert white == pytest.approx(4 * (right - left) * (bottom - top), rel=0.15, abs=30)


def test_a_crop_of_a_huge_picture_stays_within_the_longest_side():
    huge = Image.new("RGB", (MAX_SIDE, 100))
    assert crop_box(huge, (0, 0, MAX_SIDE, 100)).size == (MAX_SIDE, 100)
    line = crop_box(huge, (0, 50, MAX_SIDE, 51))
    usable(line, counts := {})
    assert not counts


# ---------------------------------------------------------------- the words of a routing


def test_image_and_none_and_pictures_from_elsewhere():
    for sees in ("image", {"column": "crop"}, {"row": "other"}):
        assert degraded([PICTURE], sees, seed=0, sample_id="a")[0] is PICTURE
    assert degraded([PICTURE], "none", seed=0, sample_id="a") == ()
    assert degraded([], "black", seed=0, sample_id="a") == ()


@pytest.mark.parametrize(
    ("sees", "source"),
    [
        ("blur", "image"),
        ({"column": "crop"}, {"column": "crop"}),
        ({"mask": {"column": "crop"}, "area": 0.3}, {"column": "crop"}),
        ({"mask": {"mask": {"row": "other"}}}, {"row": "other"}),
        ({"one_of": [[0.5, "blur"]]}, "image"),
    ],
)
def test_the_source_says_which_pictures_are_passed_in(sees, source):
    assert picture_source(sees) == source


def test_words_nest():
    white = Image.new("RGB", (90, 90), "white")
    twice = see({"mask": {"mask": "image", "area": 0.2, "seed": 1}, "area": 0.2, "seed": 2}, white)
    one, two = (black_pixels(mask_rectangle(white, 0.2, seed)) for seed in (1, 2))
    assert np.array_equal(black_pixels(twice), one | two) and (one != two).any()
    inner = see({"mask": "blur", "area": 0.2})
    assert ImageChops.difference(inner, mask_rectangle(blurred(PICTURE), 0.2)).getbbox() is None
    assert same(see({"mask": {"column": "crop"}}), mask_rectangle(PICTURE))


def test_one_of_draws_each_with_its_share_and_leaves_the_rest():
    sees = {"one_of": [[0.3, "black"], [0.3, "none"], [0.2, {"mask": "image"}]]}
    found: Counter[str] = Counter()
    masked = mask_rectangle(PICTURE)
    n = 1500
    for number in range(n):
        shown = degraded([PICTURE, PICTURE], sees, seed=0, sample_id=str(number))
        if not shown:
            found["none"] += 1
        elif shown[0] is PICTURE:
            found["image"] += 1
            assert shown[1] is PICTURE  # one draw for all pictures of a sample
        else:
            found["mask" if same(shown[0], masked) else "black"] += 1
    for name, share in (("black", 0.3), ("none", 0.3), ("mask", 0.2), ("image", 0.2)):
        assert binomtest(found[name], n, share).pvalue > 1e-4, found
    assert same(see({"one_of": [[1.0, "blur"]]}), blurred(PICTURE))


def test_a_choice_in_a_choice_is_drawn_by_itself():
    inner = {"one_of": [[0.5, "black"]]}
    shown = [see({"one_of": [[0.5, inner]]}, id=str(i)) for i in range(600)]
    assert binomtest(sum(image is not PICTURE for image in shown), 600, 0.25).pvalue > 1e-4


@pytest.mark.parametrize(
    ("sees", "message"),
    [
        ("blurr", "did you mean blur"),
        (3, "choose a word"),
        ({"mask": "image", "aera": 0.3}, "choose a word"),
        ({"mask": "image", "area": 2}, "area=2 is not a share"),
        ({"mask": "image", "area": "big"}, "area=big is not a share"),
        ({"row": "next"}, "choose a word"),
        ({"column": "crop", "area": 1}, "choose a word"),
        ({"one_of": []}, "pairs of a share and a picture"),
        ({"one_of": ["blur"]}, "pairs of a share and a picture"),
        ({"one_of": [[0.7, "blur"], [0.4, "black"]]}, "sum to more than 1"),
        ({"one_of": [[-0.1, "blur"]]}, "must not be negative"),
        ({"one_of": [["much", "blur"]]}, "must not be negative"),
        ({"one_of": [[0.5, {"column": "crop"}]]}, "a degradation of the picture itself"),
        ({"one_of": [[1, "blurr"]]}, "did you mean blur"),
    ],
)
def test_a_mistake_in_the_words_is_named(sees, message):
    with pytest.raises(ConfigError, match=message) as error:
        degraded([PICTURE], sees, seed=0, sample_id="a")
    assert "\n" not in str(error.value)
