"""Random changes of images and their normalization, on whole batches, on any device."""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from smidgen.config import Augment
from smidgen.data.datasets import Background

_PADDING = {"black": "zeros", "edge": "border"}  # as grid_sample calls them


def normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Pixels of 0 to 255 as (pixel / 255 - mean) / std by channel, float32.

    `images` are (batch, channels, height, width), uint8 or float.

    >>> normalize(torch.tensor([[[[0, 255]]]], dtype=torch.uint8), (0.5,), (0.25,)).tolist()
    [[[[-2.0, 2.0]]]]
    """
    shape = (1, len(mean), 1, 1)
    factor = torch.tensor([1 / (255 * s) for s in std], device=images.device).view(shape)
    offset = torch.tensor([m / s for m, s in zip(mean, std, strict=True)], device=images.device)
    return (images.float() * factor).sub_(offset.view(shape))


def augment(
    images: Tensor,
    settings: Augment,
    generator: torch.Generator,
    background: Background = "black",
) -> Tensor:
    """The images, each rotated, scaled, sheared and shifted by its own draw from `generator`.

    The result is float32 on the scale of raw pixels, (batch, channels, height, width) like the
    uint8 images. Beyond the border lies `background`; black is 0 here, which it would not be after
    normalization. Settings that are all 0 return the images unchanged.
    """
    maps = draw_maps(settings, len(images), images.shape[2], images.shape[3], generator)
    return images if maps is None else sample(images.float(), maps, background)


def draw_maps(
    settings: Augment, count: int, height: int, width: int, generator: torch.Generator
) -> Tensor | None:
    """An `inverse_map` (count, 2, 3) for each of `count` images, drawn from `generator`.

    Draws are uniform between the settings' limits, on the CPU whatever the images' device, so the
    same generator gives the same changes everywhere. Settings that are all 0 draw nothing: None.
    """
    if not (settings.rotate or settings.translate or settings.scale or settings.shear):
        return None
    limits = torch.tensor(
        [
            math.radians(settings.rotate),
            settings.scale,
            settings.shear,
            settings.translate * width,
            settings.translate * height,
        ]
    )
    draws = (torch.rand(count, 5, generator=generator) * 2 - 1) * limits
    angle, growth, shear, right, down = draws.unbind(1)
    return inverse_map(angle, 1 + growth, shear, right, down, height, width)


def inverse_map(
    angle: Tensor,
    scale: Tensor,
    shear: Tensor,
    right: Tensor,
    down: Tensor,
    height: int,
    width: int,
) -> Tensor:
    """Where a pixel of p -> R(angle) K(shear) scale p + (right, down) comes from: (batch, 2, 3).

    p is a pixel's place from the image's center, x to the right and y downwards, so angles (in
    radians) turn clockwise on the screen; K shifts x by shear * y; right and down are pixels. All
    five are (batch,). The map is in the units of affine_grid without aligned corners.
    """
    sin, cos = angle.sin(), angle.cos()
    # grid_sample expects, for each place in the output, its place in the input: the inverse map,
    xx, xy = (cos + shear * sin) / scale, (sin - shear * cos) / scale
    yx, yy = -sin / scale, cos / scale
    x0, y0 = -(xx * right + xy * down), -(yx * right + yy * down)
    # in units in which each side runs from -1 to 1, so off-diagonal terms take the aspect ratio.
    rows = [
        torch.stack([xx, xy * (height / width), x0 * (2 / width)], 1),
        torch.stack([yx * (width / height), yy, y0 * (2 / height)], 1),
    ]
    return torch.stack(rows, 1)


def sample(images: Tensor, maps: Tensor, background: Background = "black") -> Tensor:
    """The float images, each sampled bilinearly through its map; beyond lies the background."""
    grid = F.affine_grid(maps.to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(
        images, grid, mode="bilinear", padding_mode=_PADDING[background], align_corners=False
    )
