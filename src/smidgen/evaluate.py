"""A network's score on a set of images."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from smidgen.data import Part, ordered_batches
from smidgen.record import Evaluation, Score


@torch.no_grad()
def evaluate(
    network: nn.Module,
    part: Part,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    num_classes: int,
    batch_size: int = 500,
) -> Evaluation:
    """Mean cross-entropy, accuracy and confusion matrix of `network` in eval mode on all of `part`.

    The network gives logits or log-probabilities (batch, classes) and stands on the part's device.
    """
    was_training = network.training
    network.eval()
    loss = torch.zeros((), dtype=torch.float64)
    confusion = torch.zeros(num_classes * num_classes, dtype=torch.int64)
    for images, labels in ordered_batches(part, batch_size=batch_size, mean=mean, std=std):
        scores = network(images).float()  # (batch, classes)
        loss += F.cross_entropy(scores, labels, reduction="sum").cpu()
        cells = labels * num_classes + scores.argmax(1)
        confusion += torch.bincount(cells, minlength=confusion.numel()).cpu()
    network.train(was_training)
    table = confusion.view(num_classes, num_classes)
    num_images, num_correct = len(part.labels), int(table.trace())
    return Evaluation(
        score=Score(loss=float(loss) / num_images, accuracy=num_correct / num_images),
        num_images=num_images,
        num_correct=num_correct,
        confusion=tuple(tuple(row) for row in table.tolist()),
    )
