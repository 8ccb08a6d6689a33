"""A person's own transforms of training images, torchvision's say: named in the experiment.

Importing them runs code, the person's own. That happens when training begins, never when a record
is read, checked or reported.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from smidgen._storage.user_code import call_user_code, user_object
from smidgen.errors import ConfigError, DataError

Transform = Callable[[Tensor], Tensor]


def own_transforms(reference: str) -> tuple[Transform, ...]:
    """What MODULE:NAME or FILE.py:NAME is: a callable, a class made without arguments, or several.

    Each takes a batch of raw pixels, uint8 (batch, channels, height, width), and gives one.

    Raises:
        ConfigError: there is no such module or name, or it cannot be called.
    """
    with user_object(reference, "data.transforms", ConfigError) as found:
        several = found if isinstance(found, Iterable) and not callable(found) else [found]
        transforms = call_user_code(
            f"data.transforms: {reference}",
            lambda: tuple(one() if isinstance(one, type) else one for one in several),
            ConfigError,
        )
    for transform in transforms:
        if not callable(transform):
            raise ConfigError(f"data.transforms: {transform!r} of {reference} cannot be called.")
    return transforms


def transformed(images: Tensor, transforms: tuple[Transform, ...], reference: str) -> Tensor:
    """The batch after each of the transforms.

    Raises:
        DataError: one of them fails, or gives something else than images of the same shape, uint8
            or float.
    """
    changed: Any = images
    try:
        for transform in transforms:
            changed = transform(changed)
    except Exception as error:  # as above
        raise DataError(
            f"data.transforms {reference} fails on a batch of {tuple(images.shape)}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(changed, Tensor) or changed.shape != images.shape:
        got = tuple(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
        raise DataError(
            f"data.transforms {reference} makes {got} of {tuple(images.shape)}; it must give "
            "images of the same shape."
        )
    if changed.dtype != torch.uint8 and not changed.is_floating_point():
        raise DataError(
            f"data.transforms {reference} gives {changed.dtype}; pixels are uint8 or float, 0 to "
            "255."
        )
    return changed
