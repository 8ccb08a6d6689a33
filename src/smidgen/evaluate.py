"""A network's score on a split of a data set."""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from smidgen.data import Dataset, Split, eval_batches
from smidgen.errors import ModelError
from smidgen.record import CalibrationBin, Evaluation, Score

BINS = 15  # of the calibration


def evaluate_split(network: nn.Module, data: Dataset, split: Split) -> Evaluation:
    """The evaluation of `network` on one split of `data`; see `evaluate`."""
    return evaluate(network, split, data.mean, data.std, len(data.classes))


@torch.no_grad()
def evaluate(
    network: nn.Module,
    split: Split,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    num_classes: int,
    batch_size: int = 500,
) -> Evaluation:
    """Loss, accuracy, confusion matrix and calibration of `network`, in eval mode, on `split`.

    The network returns logits or log-probabilities (batch, classes); it must be on the split's
    device, and is put back into training mode if it was in it.

    Raises:
        ModelError: the loss is not finite.
    """
    was_training = network.training
    network.eval()
    loss = torch.zeros((), dtype=torch.float64)
    confusion = torch.zeros(num_classes * num_classes, dtype=torch.int64)
    bins = torch.zeros(3, BINS, dtype=torch.float64)  # images, confidence, correct images
    for images, labels in eval_batches(split, batch_size=batch_size, mean=mean, std=std):
        scores = network(images).float()  # (batch, classes)
        loss += F.cross_entropy(scores, labels, reduction="sum").cpu()
        if not math.isfinite(float(loss)):
            raise ModelError(
                f"the network's loss on {len(split):,} images is {float(loss)}, so it cannot be "
                "used; try a lower train.optimizer.lr or a longer warm-up."
            )
        confidence, predicted = (t.cpu() for t in scores.softmax(1).max(1))  # MPS has no float64
        true = labels.cpu()
        confusion += torch.bincount(true * num_classes + predicted, minlength=confusion.numel())
        numbers = (confidence * BINS).long().clamp(max=BINS - 1)
        for row, weights in enumerate((torch.ones_like(confidence), confidence, predicted == true)):
            bins[row] += torch.bincount(numbers, weights.double(), minlength=BINS)
    network.train(was_training)
    table = confusion.view(num_classes, num_classes)
    num_images, num_correct = len(split), int(table.trace())
    return Evaluation(
        score=Score(loss=float(loss) / num_images, accuracy=num_correct / num_images),
        num_images=num_images,
        num_correct=num_correct,
        confusion=tuple(tuple(row) for row in table.tolist()),
        calibration=tuple(
            CalibrationBin(
                num_images=int(number),
                confidence=confidence / max(1, number),
                accuracy=correct / max(1, number),
            )
            for number, confidence, correct in zip(*bins.tolist(), strict=True)
        ),
    )
