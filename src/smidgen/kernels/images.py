"""Batches by the kernels: chosen images, each through its own affine map, normalized."""

import ctypes

import torch
from torch import Tensor

from smidgen.kernels.build import library


class _Images(ctypes.Structure):
    """Images of images.cpp."""

    _fields_ = (
        ("pixels", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("channels", "height", "width", "edge")),
        *((name, ctypes.c_void_p) for name in ("factor", "offset")),
    )


def prepare(
    images: Tensor,
    chosen: Tensor,
    maps: Tensor | None,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    edge: bool = False,
    threads: int = 1,
    flags: tuple[str, ...] = (),
) -> Tensor:
    """The images `chosen` (batch,), sampled and normalized: float32 (batch, c, height, width).

    `images` are uint8 (n, c, height, width). `maps` (batch, 2, 3) are the inverse maps in the units
    of torch's affine_grid without aligned corners, sampled bilinearly as grid_sample does; None
    leaves the images as they are. Beyond the border lies 0, or with `edge` the nearest pixel. What
    comes out is (pixel / 255 - mean) / std by channel, for any number of threads the same bytes.

    Raises:
        Unsupported: there are no kernels here.
        ValueError: a tensor of another type, shape or place than these, or a place out of range.
    """
    kernels, channels = library("images.cpp", flags), images.shape[1]
    _check(images, chosen, maps, len(mean), len(std))
    factor = torch.tensor([1 / (255 * s) for s in std])
    offset = torch.tensor([m / s for m, s in zip(mean, std, strict=True)])
    chosen = chosen.contiguous()
    maps = maps if maps is None else maps.contiguous()
    result = torch.empty(len(chosen), *images.shape[1:])
    described = _Images(
        pixels=images.data_ptr(),
        channels=channels,
        height=images.shape[2],
        width=images.shape[3],
        edge=edge,
        factor=factor.data_ptr(),
        offset=offset.data_ptr(),
    )
    kernels.lanes_prepare(
        ctypes.byref(described),
        ctypes.c_void_p(chosen.data_ptr()),
        ctypes.c_int64(len(chosen)),
        ctypes.c_void_p(None if maps is None else maps.data_ptr()),
        ctypes.c_void_p(result.data_ptr()),
        ctypes.c_int32(threads),
    )
    return result


def _check(images: Tensor, chosen: Tensor, maps: Tensor | None, *channels: int) -> None:
    """What C++ would take for granted."""
    for name, tensor, dtype, ndim in (
        ("images", images, torch.uint8, 4),
        ("chosen", chosen, torch.int64, 1),
        ("maps", maps, torch.float32, 3),
    ):
        if tensor is not None and (
            tensor.dtype != dtype or tensor.ndim != ndim or not tensor.is_cpu
        ):
            raise ValueError(f"expected {name} of {dtype} with {ndim} axes, on the CPU")
    if not images.is_contiguous() or any(n != images.shape[1] for n in channels):
        raise ValueError("expected contiguous images, and a mean and a std for each channel")
    if maps is not None and maps.shape != (len(chosen), 2, 3):
        raise ValueError("expected a map (2, 3) for each chosen image")
    if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < len(images):
        raise ValueError(f"expected places from 0 to {len(images) - 1}")
