"""Random changes of images and their normalization, on whole batches, on any device."""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from smidgen.config import Augment
from smidgen.data.parts import Background

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

    Draws are uniform between the settings' limits, on the CPU whatever the images' device, so the
    same generator gives the same changes everywhere. The result is float32 on the scale of raw
    pixels, (batch, channels, height, width) like the uint8 images: what comes in from outside is
    the set's `background`, for black ones raw 0, which it would not be after normalization.
    Settings that are all 0 give the images back unchanged, and draw nothing.
    """
    if not (settings.rotate or settings.translate or settings.scale or settings.shear):
        return images
    height, width = images.shape[-2:]
    limits = torch.tensor(
        [
            math.radians(settings.rotate),
            settings.scale,
            settings.shear,
            settings.translate * width,
            settings.translate * height,
        ]
    )
    draws = (torch.rand(len(images), 5, generator=generator) * 2 - 1) * limits
    angle, growth, shear, right, down = draws.unbind(1)
    return warp(images.float(), angle, 1 + growth, shear, right, down, background)


def warp(
    images: Tensor,
    angle: Tensor,
    scale: Tensor,
    shear: Tensor,
    right: Tensor,
    down: Tensor,
    background: Background = "black",
) -> Tensor:
    """The float images, sampled bilinearly after p -> R(angle) K(shear) scale p + (right, down).

    p is a pixel's place from the image's centre, x to the right and y downwards, so angles (in
    radians) turn clockwise on the screen; K shifts x by shear * y; right and down are pixels. All
    five are (batch,), on the CPU. Beyond the border lies the background.
    """
    height, width = images.shape[-2:]
    sin, cos = angle.sin(), angle.cos()
    # grid_sample wants the place in the input for each place in the output: the inverse map M,
    xx, xy = (cos + shear * sin) / scale, (sin - shear * cos) / scale
    yx, yy = -sin / scale, cos / scale
    x0, y0 = -(xx * right + xy * down), -(yx * right + yy * down)
    # in units in which each side runs from -1 to 1, so off-diagonal terms take the aspect ratio.
    rows = [
        torch.stack([xx, xy * (height / width), x0 * (2 / width)], 1),
        torch.stack([yx * (width / height), yy, y0 * (2 / height)], 1),
    ]
    theta = torch.stack(rows, 1).to(images.device)  # (batch, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(
        images, grid, mode="bilinear", padding_mode=_PADDING[background], align_corners=False
    )
