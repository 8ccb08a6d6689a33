"""What a reader wants to see of a trained network: pictures and numbers for the report."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from smidgen.config import Augment
from smidgen.data import Dataset, Split, augment, normalize, eval_batches

SAMPLES = 20
WORST = 12
MAPS = 32  # feature maps that are kept of a layer, at most


@torch.no_grad()
def diagnostics(network: nn.Module, data: Dataset, settings: Augment, seed: int) -> dict[str, Tensor]:
    """Pictures of the data and of what `network` makes of it, on the CPU, by name.

    samples, samples_labels: training images, evenly from all classes, uint8 (n, channels, height,
    width) and int64 (n,); augmented: the same images after one draw of `settings` each;
    wrong, wrong_labels, wrong_shares: the test images with the highest loss among those that were
    misclassified, their classes and the network's probabilities (n, classes), float32;
    maps: what the first convolution makes of the first sample, float16 (maps, height, width), where
    the network has a convolution.
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


def _evenly(part: Split, num_classes: int) -> Tensor:
    """The places of the first images of each class in turn, SAMPLES of them or a few less."""
    each = max(1, SAMPLES // num_classes)
    return torch.cat([part.first_of(label, each) for label in range(min(num_classes, SAMPLES))])


def _wrong(network: nn.Module, data: Dataset) -> dict[str, Tensor]:
    test: Split = data.test
    batches = eval_batches(test, batch_size=500, mean=data.mean, std=data.std)
    logs = torch.cat([network(images).float().log_softmax(1) for images, _ in batches])
    loss = F.nll_loss(logs, test.labels, reduction="none")
    loss[logs.argmax(1) == test.labels] = -1.0
    worst = loss.topk(min(WORST, len(loss)))
    places = worst.indices[worst.values >= 0]
    return {
        "wrong": test.images[places],
        "wrong_labels": test.labels[places],
        "wrong_shares": logs[places].exp(),
    }


def _maps(network: nn.Module, image: Tensor, data: Dataset) -> Tensor | None:
    """What the first convolution to be called gives; None where none is called."""
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
    return seen[0][0, :MAPS].half() if seen else None
