"""How many prompt tokens and vision patches one picture becomes, by the rule of its model family.

>>> picture_size(settings, 602112)                  # Qwen2-VL: a square picture of this area
PictureSize(tokens=768, patches=3072, values=1176)

    Qwen        patches of 14 or 16 pixels; merge x merge patches become one token
    SmolVLM     square tiles, row by row, and the whole picture as one more tile; pixel shuffle turns
                scale x scale patches of a tile into one token
    LLaVA-OneVision   tiles from a table of resolutions, and the whole picture as one more tile; the tokens of
                the tiles are thinned out if they are more than those of nine tiles
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers.image_processing_utils import select_best_resolution

PIXELS = 1280 * 28 * 28  # assumed area of a picture if model.max_pixels is null
MOST_TILES = 4  # SmolVLM's processor makes the longest edge this number of tiles long


@dataclass(frozen=True, slots=True)
class PictureSize:
    """The size of one picture for the model."""

    tokens: int  # in the prompt, the marks of tiles included
    patches: int  # that the vision tower reads
    values: int  # numbers in one patch


def picture_size(settings: Any, max_pixels: int | None) -> PictureSize:
    """The size of a square picture of `max_pixels`; `settings` is the transformers configuration."""
    vision = settings.vision_config
    rule = {"smolvlm": _tiles, "idefics3": _tiles, "llava_onevision": _resolutions}.get(
        settings.model_type, _merged_patches
    )
    values = 3 * vision.patch_size**2 * getattr(vision, "temporal_patch_size", 1)
    return PictureSize(*rule(settings, max_pixels), values)


def _merged_patches(settings: Any, max_pixels: int | None) -> tuple[int, int]:
    """Tokens and patches in the Qwen families."""
    vision = settings.vision_config
    merge = getattr(vision, "spatial_merge_size", 1)
    tokens = (max_pixels or PIXELS) // (vision.patch_size * merge) ** 2
    return tokens, tokens * merge**2


def _tiles(settings: Any, max_pixels: int | None) -> tuple[int, int]:
    """Tokens and patches in SmolVLM, whose processor enlarges small pictures to the longest edge."""
    tile = settings.vision_config.image_size
    side = MOST_TILES if max_pixels is None else min(MOST_TILES, max(1, int(max_pixels**0.5) // tile))
    patches = (tile // settings.vision_config.patch_size) ** 2
    each = patches // settings.scale_factor**2
    whole = each + 3  # three marks around the tile of the whole picture
    if side == 1:
        return whole, patches
    rows = side * (side * (each + 2) + 1)  # two marks before each tile, and a line break after each row
    return rows + 1 + whole, (side**2 + 1) * patches


def _resolutions(settings: Any, max_pixels: int | None) -> tuple[int, int]:
    """Tokens and patches in LLaVA-OneVision."""
    edge = int((max_pixels or PIXELS) ** 0.5)
    tile = settings.vision_config.image_size
    height, width = (n // tile for n in select_best_resolution((edge, edge), settings.image_grid_pinpoints))
    each = tile // settings.vision_config.patch_size
    side = min(height, width) * each  # the tokens in the margins of a square picture are cut away
    most = int(settings.vision_aspect_ratio.removeprefix("anyres_max_"))
    too_many = side / (most**0.5 * each)
    if too_many > 1.1:
        side = int(side // too_many)
    tokens = side * (side + 1) + each**2  # with one token at the end of each row
    return tokens, (height * width + 1) * each**2
