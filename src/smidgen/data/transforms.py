"""User transforms of training images, such as torchvision's, which the experiment names.

Importing them runs the user's code. That happens when training begins, never when a record is read,
checked or reported.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from smidgen._storage.user_code import call_user_code, user_object
from smidgen.errors import ConfigError, DataError

Transform = Callable[[Tensor], Tensor]


def user_transforms(reference: str) -> tuple[Transform, ...]:
    """Import MODULE:NAME or FILE.py:NAME: a callable, a class without arguments, or a list of them.

    Each takes a batch of raw pixels, uint8 (batch, channels, height, width), and returns one.

    Raises:
        ConfigError: the module or name does not exist, or is not callable.
    """
    with user_object(reference, "data.transforms", ConfigError) as found:
        items = found if isinstance(found, Iterable) and not callable(found) else [found]
        transforms = call_user_code(
            f"data.transforms: {reference}",
            lambda: tuple(item() if isinstance(item, type) else item for item in items),
            ConfigError,
        )
    for transform in transforms:
        if not callable(transform):
            raise ConfigError(f"data.transforms: {transform!r} of {reference} is not callable.")
    return transforms


def apply_transforms(images: Tensor, transforms: Iterable[Transform], reference: str) -> Tensor:
    """Apply each of the transforms to a batch.

    Raises:
        DataError: one of them fails, or returns anything but images of the same shape, uint8 or
            float.
    """

    def apply() -> Any:
        changed: Any = images
        for transform in transforms:
            changed = transform(changed)
        return changed

    changed = call_user_code(
        f"data.transforms: {reference} on a batch of {tuple(images.shape)}", apply, DataError
    )
    if not isinstance(changed, Tensor) or changed.shape != images.shape:
        got = tuple(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
        raise DataError(
            f"data.transforms: {reference} returns {got} for {tuple(images.shape)}; it must return "
            "images of the same shape."
        )
    if changed.dtype != torch.uint8 and not changed.is_floating_point():
        raise DataError(
            f"data.transforms: {reference} returns {changed.dtype}; pixels must be uint8 or float, "
            "from 0 to 255."
        )
    return changed
