"""A person's own transforms of training images, torchvision's say: named in the experiment.

Importing them runs code, the person's own. That happens when training begins, never when a record
is read, checked or reported.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from smidgen.errors import ConfigError, DataError

Transform = Callable[[Tensor], Tensor]


def own_transforms(reference: str) -> tuple[Transform, ...]:
    """What MODULE:NAME or FILE.py:NAME is: a callable, a class made without arguments, or several.

    Each takes a batch of raw pixels, uint8 (batch, channels, height, width), and gives one.

    Raises:
        ConfigError: there is no such module or name, or it cannot be called.
    """
    module, _, name = reference.rpartition(":")
    if not module or not name:
        raise ConfigError(f"data.transforms is {reference!r}; it is MODULE:NAME or FILE.py:NAME.")
    try:
        found: Any = getattr(_imported(module), name)
        several = found if isinstance(found, Iterable) and not callable(found) else [found]
        transforms = tuple(one() if isinstance(one, type) else one for one in several)
    except Exception as error:  # it is the person's code, and their mistake to mend
        raise ConfigError(
            f"data.transforms is {reference!r}, which fails: {type(error).__name__}: {error}"
        ) from error
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


def _imported(module: str) -> ModuleType:
    if not module.endswith(".py"):
        return importlib.import_module(module)
    path = Path(module)
    spec = importlib.util.spec_from_file_location(f"smidgen_own_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded
