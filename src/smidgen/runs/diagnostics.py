"""Diagnostics of a trained network: samples, worst predictions and feature maps, for reports."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from smidgen.config import Augment
from smidgen.data import Dataset, Split, augment, eval_batches, normalize

SAMPLES = 20
WORST = 12
PAIRS = 6  # of a true and a predicted class, the most frequent ones
EXAMPLES = 6  # images of each pair, at most
MAPS = 32  # feature maps of a layer, at most


@torch.no_grad()
def collect_diagnostics(
    network: nn.Module, data: Dataset, settings: Augment, seed: int
) -> dict[str, Tensor]:
    """Images and probabilities for a report, by name, on the CPU.

    - samples, samples_labels: training images, the same number of each class, uint8 (n, channels,
      height, width) and int64 (n,)
    - augmented: the same images, each after one random augmentation by `settings`
    - wrong, wrong_labels, wrong_shares: the misclassified test images with the highest loss, their
      true classes, and the predicted probabilities, float32 (n, classes)
    - pairs, pairs_labels, pairs_predicted: misclassified test images of the most frequent pairs of
      true and predicted class, those with the highest loss first, and both classes, int64 (n,)
    - maps: the first convolution's output for the first sample, float16 (maps, height, width), if
      the network has a convolution
    """
    network.eval()
    chosen = _evenly(data.train, len(data.classes))
    samples = data.train.images[chosen]
    found = {"samples": samples, "samples_labels": data.train.labels[chosen]}
    generator = torch.Generator().manual_seed(seed)
    found["augmented"] = (
        augment(samples, settings, generator, data.train.background).round().clamp(0, 255).byte()
    )
    found |= _wrong(network, data)
    maps = _maps(network, samples[:1], data)
    if maps is not None:
        found["maps"] = maps
    return {name: tensor.cpu().contiguous() for name, tensor in found.items()}


def _evenly(split: Split, num_classes: int) -> Tensor:
    """Indices of the first images of each class in turn, about SAMPLES in all."""
    each = max(1, SAMPLES // num_classes)
    return torch.cat(
        [split.first_of_class(label, each) for label in range(min(num_classes, SAMPLES))]
    )


def _wrong(network: nn.Module, data: Dataset) -> dict[str, Tensor]:
    test = data.test
    batches = eval_batches(test, batch_size=500, mean=data.mean, std=data.std)
    logs = torch.cat([network(images).float().log_softmax(1) for images, _ in batches])
    loss = F.nll_loss(logs, test.labels, reduction="none")
    predicted = logs.argmax(1)
    loss[predicted == test.labels] = -1.0
    order = loss.argsort(descending=True, stable=True)
    wrong = order[: int((loss >= 0).sum())]
    worst, pairs = wrong[:WORST], _of_frequent_pairs(wrong, test.labels, predicted)
    return {
        "wrong": test.images[worst],
        "wrong_labels": test.labels[worst],
        "wrong_shares": logs[worst].exp(),
        "pairs": test.images[pairs],
        "pairs_labels": test.labels[pairs],
        "pairs_predicted": predicted[pairs],
    }


def _of_frequent_pairs(wrong: Tensor, labels: Tensor, predicted: Tensor) -> Tensor:
    """The indices in `wrong` that belong to the most frequent pairs, in their order."""
    found: dict[tuple[int, int], list[int]] = {}
    for index, *pair in zip(
        wrong.tolist(), labels[wrong].tolist(), predicted[wrong].tolist(), strict=True
    ):
        found.setdefault((pair[0], pair[1]), []).append(index)
    frequent = sorted(found, key=lambda pair: (-len(found[pair]), pair))[:PAIRS]
    chosen = [index for pair in frequent for index in found[pair][:EXAMPLES]]
    return torch.tensor(chosen, dtype=torch.int64, device=wrong.device)


def _maps(network: nn.Module, image: Tensor, data: Dataset) -> Tensor | None:
    """Output of the first convolution that runs; None if there is none."""
    seen: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda module, args, output: seen.append(output))
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        network(normalize(image, data.mean, data.std))
    finally:
        for hook in hooks:
            hook.remove()
    return seen[0][0, :MAPS].to(torch.float16) if seen else None
