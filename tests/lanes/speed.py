"""Images a second of whole training loops, with the kernels and without, side by side.

    OMP_WAIT_POLICY=passive taskset -c 1 python tests/lanes/speed.py [--pairs 7] [network ...]

`plain` is the loop of most notebooks: Pillow turns and shifts each image, a DataLoader collects
them, the loss is printed at every step. The others take smidgen's steps. All learn from batches of
128 with SGD; variants run by turns, and the medians of their rates are shown, with the least and
the most. The peak is that of torch's float32 matrix product in this process, measured between.
"""

import argparse
import io
import random
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from smidgen.config import Augment, Average, Optimizer, Train
from smidgen.data.augment import augment, normalize
from smidgen.lanes import lanes_for, prepare
from smidgen.nets.chain import build_chain
from smidgen.nets.reference import REFERENCE
from smidgen.training.learner import Learner

NETWORKS = ("default", *REFERENCE)
BATCH, MEAN, STD = 128, 0.1307, 0.3081
SETTINGS = Augment(rotate=10, translate=0.1)
GENERATOR = np.random.default_rng(0)
RAW = GENERATOR.integers(0, 256, (12_800, 28, 28), dtype=np.uint8)
LABELS = GENERATOR.integers(0, 10, len(RAW))
IMAGES, TARGETS = torch.from_numpy(RAW)[:, None], torch.from_numpy(LABELS)


TRAIN = Train(
    epochs=1,
    batch_size=BATCH,
    optimizer=Optimizer(name="sgd", lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4),
    average=Average(name="ema", decay=0.995),
)


class Pictures(Dataset[tuple[Tensor, int]]):
    """One image at a time, turned and shifted by Pillow."""

    def __len__(self) -> int:
        return len(RAW)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(RAW[index]).rotate(
            random.uniform(-10, 10), Image.Resampling.BILINEAR
        )
        right, down = round(random.uniform(-2.8, 2.8)), round(random.uniform(-2.8, 2.8))
        image = image.transform(image.size, Image.Transform.AFFINE, (1, 0, right, 0, 1, down))
        pixels = torch.from_numpy(np.array(image, np.uint8, copy=True)).view(28, 28, 1)
        tensor = pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255)
        return tensor.sub_(MEAN).div_(STD), int(LABELS[index])


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "default":
        return build_chain("8 8 M 14 14 14 16 G", (1, 28, 28), 10)
    return REFERENCE[name]()


def plain(name: str) -> Callable[[], None]:
    network = build(name).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from DataLoader(Pictures(), BATCH, shuffle=True)

    fed, screen = batches(), io.StringIO()

    def step() -> None:
        images, labels = next(fed)
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        torch.autograd.backward(loss)
        optimizer.step()
        print(f"\rloss={loss.item():.4f}", file=screen, flush=True)

    return step


def eager(name: str) -> Callable[[], None]:
    learner, generator = Learner(build(name).train(), TRAIN), torch.Generator().manual_seed(0)

    def step() -> None:
        chosen = torch.randint(0, len(IMAGES), (BATCH,), generator=generator)
        images = augment(IMAGES.index_select(0, chosen), SETTINGS, generator)
        images = normalize(images, (MEAN,), (STD,))
        learner.step(images, TARGETS.index_select(0, chosen), 0.01)

    return step


def lanes(name: str, half: bool, threads: int) -> Callable[[], None]:
    network, generator = build(name).train(), torch.Generator().manual_seed(0)
    learner = Learner(network, TRAIN)
    learner._forward = lanes_for(network, (1, 28, 28), threads=threads, half=half)

    def step() -> None:
        chosen = torch.randint(0, len(IMAGES), (BATCH,), generator=generator)
        maps = random_maps(BATCH, generator)
        images = prepare(IMAGES, chosen, maps, mean=(MEAN,), std=(STD,), threads=threads)
        learner.step(images, TARGETS.index_select(0, chosen), 0.01)

    return step


def random_maps(count: int, generator: torch.Generator) -> Tensor:
    """As `smidgen.data.augment.warp` makes them, for square images."""
    limits = torch.tensor([np.radians(SETTINGS.rotate), 0, 0, 2.8, 2.8], dtype=torch.float32)
    draws = (torch.rand(count, 5, generator=generator) * 2 - 1) * limits
    angle, growth, shear, right, down = draws.unbind(1)
    sin, cos, scale = angle.sin(), angle.cos(), 1 + growth
    xx, xy = (cos + shear * sin) / scale, (sin - shear * cos) / scale
    yx, yy = -sin / scale, cos / scale
    x0, y0 = -(xx * right + xy * down), -(yx * right + yy * down)
    return torch.stack([xx, xy, x0 / 14, yx, yy, y0 / 14], 1).view(count, 2, 3)


def macs(network: nn.Module) -> int:
    """Multiply-adds of convolutions and linear layers for one image."""
    counted = [0]

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        counted[0] += weight.numel() * output[0, 0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    network.eval()(torch.zeros(1, 1, 28, 28))
    return counted[0]


def peak(matrix: Tensor) -> float:
    """Floating-point operations a second of a matrix product, the median of six."""
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        seconds.append(time.perf_counter() - start)
    return 2 * len(matrix) ** 3 / statistics.median(seconds)


def rate(step: Callable[[], None], seconds: float) -> float:
    start, done = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds:
        step()
        done += BATCH
    return done / passed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for name in given.networks:
        variants = {
            "plain": plain(name),
            "eager": eager(name),
            "lanes": lanes(name, False, given.threads),
            "lanes half": lanes(name, True, given.threads),
        }
        matrix, work = torch.randn(1536, 1536), 6 * macs(build(name))  # 2 forward, 4 backward
        rates: dict[str, list[float]] = {variant: [] for variant in variants}
        peaks = []
        for step in variants.values():
            rate(step, 0.1)
        for _ in range(given.pairs):
            peaks.append(peak(matrix))
            for variant, step in variants.items():
                rates[variant].append(rate(step, given.seconds))
        print(f"{name}: {work / 6:,.0f} MACs, peak {statistics.median(peaks) / 1e9:.0f} GFLOP/s")
        for variant, found in rates.items():
            times = [r / p for r, p in zip(found, rates["plain"], strict=True)]
            share = statistics.median(r * work / p for r, p in zip(found, peaks, strict=True))
            print(
                f"   {variant:11}{statistics.median(found):8,.0f} [{min(found):,.0f} .. "
                f"{max(found):,.0f}]  {statistics.median(times):5.2f} x plain "
                f"[{min(times):.2f} .. {max(times):.2f}]  {share:4.0%} of peak",
                flush=True,
            )


if __name__ == "__main__":
    main()
