"""A network's score on a set of images."""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from smidgen.data import Split, eval_batches
from smidgen.errors import ModelError
from smidgen.record import CalibrationBin, Evaluation, Score

BINS = 15


@torch.no_grad()
def evaluate(
    network: nn.Module,
    part: Split,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    num_classes: int,
    batch_size: int = 500,
) -> Evaluation:
    """Loss, accuracy, confusion matrix and calibration of `network` in eval mode on all of `part`.

    The network gives logits or log-probabilities (batch, classes) and stands on the part's device.

    Raises:
        ModelError: the loss is not finite.
    """
    was_training = network.training
    network.eval()
    loss = torch.zeros((), dtype=torch.float64)
    confusion = torch.zeros(num_classes * num_classes, dtype=torch.int64)
    bins = torch.zeros(3, BINS, dtype=torch.float64)  # images, sums of confidence, right ones
    for images, labels in eval_batches(part, batch_size=batch_size, mean=mean, std=std):
        scores = network(images).float()  # (batch, classes)
        loss += F.cross_entropy(scores, labels, reduction="sum").cpu()
        if not math.isfinite(float(loss)):
            raise ModelError(
                f"the network's loss on a set of {len(part):,} images is {float(loss)}, so it is "
                "of no use; a lower train.optimizer.lr, or a longer warm-up, usually helps."
            )
        confidence, guess = scores.softmax(1).max(1)
        cells = labels * num_classes + guess
        confusion += torch.bincount(cells, minlength=confusion.numel()).cpu()
        places = (confidence * BINS).long().clamp(max=BINS - 1)
        for row, weights in enumerate((torch.ones_like(confidence), confidence, guess == labels)):
            bins[row] += torch.bincount(places, weights.double(), minlength=BINS).cpu()
    network.train(was_training)
    table = confusion.view(num_classes, num_classes)
    num_images, num_correct = len(part.labels), int(table.trace())
    return Evaluation(
        score=Score(loss=float(loss) / num_images, accuracy=num_correct / num_images),
        num_images=num_images,
        num_correct=num_correct,
        confusion=tuple(tuple(row) for row in table.tolist()),
        calibration=tuple(
            CalibrationBin(
                num_images=int(number),
                confidence=confidence / max(1, number),
                accuracy=right / max(1, number),
            )
            for number, confidence, right in zip(*bins.tolist(), strict=True)
        ),
    )
