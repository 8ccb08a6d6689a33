"""Training batches by the kernels: images sampled through affine maps and normalized."""

import ctypes
import functools

import torch
from torch import Tensor

from smidgen.kernels.build import check_fields, load_library


class _Images(ctypes.Structure):
    """Images of images.cpp."""

    _fields_ = (
        ("pixels", ctypes.c_void_p),
        *((name, ctypes.c_int32) for name in ("channels", "height", "width", "edge")),
        *((name, ctypes.c_void_p) for name in ("factor", "offset", "scratch")),
    )


def prepare_batch(
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
    """Return the images at indices `chosen` (batch,): float32 (batch, channels, height, width).

    `images` are uint8 (n, channels, height, width). `maps` (batch, 2, 3) are inverse affine maps in
    the units of torch's affine_grid with align_corners=False, sampled bilinearly as by grid_sample;
    None leaves the images unchanged. Outside an image is 0 or, with `edge`, its nearest pixel. The
    result is (pixel / 255 - mean) / std by channel, the same bytes for any number of threads.

    Raises:
        Unsupported: the kernels cannot be built here.
        ValueError: a tensor has the wrong type or shape, or an index is out of range.
    """
    _check_tensors(images, chosen, maps, len(mean), len(std))
    kernels = _kernels(flags)
    channels, height, width = images.shape[1:]
    factor = torch.tensor([1 / (255 * s) for s in std])
    offset = torch.tensor([m / s for m, s in zip(mean, std, strict=True)])
    scratch = torch.empty(threads if maps is not None else 0, channels, height + 2, width + 2)
    chosen = chosen.contiguous()
    maps = maps if maps is None else maps.contiguous()
    result = torch.empty(len(chosen), channels, height, width)
    described = _Images(
        pixels=images.data_ptr(),
        channels=channels,
        height=height,
        width=width,
        edge=edge,
        factor=factor.data_ptr(),
        offset=offset.data_ptr(),
        scratch=scratch.data_ptr(),
    )
    kernels.smidgen_prepare_batch(
        ctypes.byref(described),
        ctypes.c_void_p(chosen.data_ptr()),
        ctypes.c_int64(len(chosen)),
        ctypes.c_void_p(None if maps is None else maps.data_ptr()),
        ctypes.c_void_p(result.data_ptr()),
        ctypes.c_int32(threads),
    )
    return result


@functools.cache
def _kernels(flags: tuple[str, ...]) -> ctypes.CDLL:
    kernels = load_library(flags).functions
    check_fields(_Images, kernels.smidgen_images_fields)
    return kernels


def _check_tensors(images: Tensor, chosen: Tensor, maps: Tensor | None, *channels: int) -> None:
    """Check what the C++ code takes for granted."""
    for name, tensor, dtype, ndim in (
        ("images", images, torch.uint8, 4),
        ("chosen", chosen, torch.int64, 1),
        ("maps", maps, torch.float32, 3),
    ):
        if tensor is not None and (
            tensor.dtype != dtype or tensor.ndim != ndim or not tensor.is_cpu
        ):
            raise ValueError(f"expected {name} of {dtype} with {ndim} dimensions, on the CPU")
    if not images.is_contiguous() or any(n != images.shape[1] for n in channels):
        raise ValueError("expected contiguous images, and a mean and a std for each channel")
    if maps is not None and maps.shape != (len(chosen), 2, 3):
        raise ValueError("expected one map of shape (2, 3) for each chosen image")
    if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < len(images):
        raise ValueError(f"expected indices from 0 to {len(images) - 1}")
