"""Mistakes that let a network train badly without an error, found before its first step."""

import copy
import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from smidgen.data import Dataset, normalize
from smidgen.errors import DataError
from smidgen.record import Epoch
from smidgen.seeds import preserved_generators

_IMAGES = 64
_FEW_IMAGES = 10


def check_classes(data: Dataset) -> tuple[str, ...]:
    """A warning if classes have few training images.

    Raises:
        DataError: a class has none.
    """
    counts = data.train.labels.bincount(minlength=len(data.classes)).tolist()
    by_class = dict(zip(data.classes, counts, strict=True))
    for name, count in by_class.items():
        if not count:
            raise DataError(
                f"{data.name}: the class {name!r} has no image in the training split, so it cannot "
                "be learned; add images, or make data.validation smaller."
            )
    few = [f"{name} ({count})" for name, count in by_class.items() if count < _FEW_IMAGES]
    if not few:
        return ()
    shown = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if few[5:] else "")
    return (f"Classes with fewer than {_FEW_IMAGES} training images: {shown}.",)


def check_network(network: nn.Module, data: Dataset) -> tuple[str, ...]:
    """What is probably wrong with `network`, a sentence each with the fix; usually nothing.

    A copy takes one step's forward and backward pass on training images of `data`, which must be
    on the network's device. Network and random generators stay as they are. Found are outputs that
    are probabilities or went through a ReLU, equal outputs for different images, and parameters
    without a gradient.
    """
    twin = copy.deepcopy(network).train()
    count = min(_IMAGES, len(data.train))
    images, labels = data.train.images[:count], data.train.labels[:count]
    device = labels.device
    with preserved_generators(device):
        try:
            scores = twin(normalize(images, data.mean, data.std)).float()  # (batch, classes)
        except ValueError:  # too few values for batch norm, which training reports
            return ()
        F.cross_entropy(scores, labels).backward()  # type: ignore[no-untyped-call]
    return (*_check_scores(scores.detach()), *_check_gradients(twin))


def _check_scores(scores: Tensor) -> list[str]:
    found = []
    if len(scores) > 1 and float((scores - scores[0]).abs().max()) <= 1e-6:
        found.append(
            "The network gives the same scores for different images: look for a layer that "
            "ignores its input, or for weights that are all zero."
        )
    elif float(scores.min()) >= 0 and torch.allclose(scores.sum(1), scores.new_ones(()), atol=1e-4):
        found.append(
            "The network's outputs are probabilities (they are positive and sum to 1), but "
            "cross-entropy expects logits or log-probabilities: remove the final softmax, or use "
            "log_softmax."
        )
    elif float(scores.min()) == 0:
        found.append(
            "No score of the network is negative and some are exactly 0: remove the ReLU after "
            "the last layer, which cuts off every negative score and its gradient."
        )
    return found


def _check_gradients(network: nn.Module) -> list[str]:
    names = [
        name
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not bool(parameter.grad.any()))
    ]
    if not names:
        return []
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
    return [
        f"These parameters get no gradient, so they never learn: {shown}. Use them in forward, "
        "without detach() or no_grad(), or freeze them with requires_grad_(False)."
    ]


def check_first_epoch(epoch: Epoch, num_classes: int) -> tuple[str, ...]:
    """A warning if the first epoch was no better than guessing.

    That is a loss of ln(classes) or more, and an accuracy of at most 1.5 / classes.
    """
    if epoch.train.loss < math.log(num_classes) or epoch.train.accuracy > 1.5 / num_classes:
        return ()
    return (
        f"After the first epoch the training loss is {epoch.train.loss:.2f}, no better than "
        f"guessing ({math.log(num_classes):.2f}): the learning rate may be too high, or the labels "
        "may not belong to the images.",
    )
