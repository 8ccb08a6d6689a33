"""Images per second of complete training loops, in each backend and in a plain loop.

    python benchmarks/train_speed.py [--threads 1] [--pairs 7] [--json FILE] [network ...]

`plain` is the loop of most notebooks: Pillow rotates and shifts each image, a DataLoader collects
them, the loss is printed at every step. The others are smidgen's loop. All train on batches of 128
with SGD. Variants take turns; the table shows the medians, --json also the extremes. The peak is
that of torch's float32 matrix product in the same process, measured between the turns.
"""

import argparse
import io
import itertools
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from smidgen.config import Augment, Average, Optimizer, Train
from smidgen.data import TrainLoader, TrainSplit
from smidgen.models.chain import build_chain
from smidgen.models.reference import REFERENCE
from smidgen.profiling import profile
from smidgen.runs.benchmark import PASSES, matrix_flops
from smidgen.training.backends import BACKENDS, build_backend
from smidgen.training.step import TrainStep

NETWORKS = ("default", *REFERENCE)
SHOWN = ("plain", "eager", "channels-last bfloat16", "native", "native bfloat16")
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


class RotatedImages(Dataset[tuple[Tensor, int]]):
    """One image at a time, rotated and shifted by Pillow."""

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
            yield from DataLoader(RotatedImages(), BATCH, shuffle=True)

    fed, screen = batches(), io.StringIO()

    def step() -> None:
        images, labels = next(fed)
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        torch.autograd.backward(loss)
        optimizer.step()
        print(f"\rloss={loss.item():.4f}", file=screen, flush=True)

    return step


def smidgen_loop(
    name: str, backend: str, precision: Literal["float32", "bfloat16"]
) -> Callable[[], None]:
    """Smidgen's batches and steps in one backend."""
    network, settings = build(name).train(), replace(TRAIN, precision=precision)
    chosen = build_backend(backend, network, (1, 28, 28), settings, torch.get_num_threads())
    training = TrainStep(network, settings, chosen.forward)
    loader = TrainLoader(
        split=TrainSplit(IMAGES, TARGETS),
        batch_size=BATCH,
        augment=SETTINGS,
        mean=(MEAN,),
        std=(STD,),
        seed=0,
        prepare=chosen.prepare,
    )
    batches = (batch for epoch in itertools.count(1) for batch in loader.epoch(epoch))
    return lambda: training.step(*next(batches), 0.01) and None


def rate(step: Callable[[], None], seconds: float) -> float:
    start, done = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds:
        step()
        done += BATCH
    return done / passed


def measure(name: str, pairs: int, seconds: float) -> dict[str, Any]:
    """Images per second of one network in each variant."""
    variants = {"plain": plain(name)}
    for backend in BACKENDS:
        variants |= {
            backend: smidgen_loop(name, backend, "float32"),
            f"{backend} bfloat16": smidgen_loop(name, backend, "bfloat16"),
        }
    work = 2 * PASSES * profile(build(name), (1, 28, 28)).macs
    rates: dict[str, list[float]] = {variant: [] for variant in variants}
    peaks = []
    for step in variants.values():
        rate(step, 0.1)
    for _ in range(pairs):
        peaks.append(matrix_flops(torch.get_num_threads(), side=1536))
        for variant, step in variants.items():
            rates[variant].append(rate(step, seconds))
    found: dict[str, Any] = {
        "macs": work // (2 * PASSES),
        "peak_gflops": statistics.median(peaks) / 1e9,
    }
    for variant, each in rates.items():
        times = [r / p for r, p in zip(each, rates["plain"], strict=True)]
        found[variant] = {
            "images_per_second": round(statistics.median(each)),
            "least": round(min(each)),
            "most": round(max(each)),
            "times_plain": round(statistics.median(times), 2),
            "times_least": round(min(times), 2),
            "times_most": round(max(times), 2),
            "share_of_peak": round(
                statistics.median(r * work / p for r, p in zip(each, peaks, strict=True)), 3
            ),
        }
    return found


def table(found: dict[str, Any]) -> str:
    """Markdown: images a second, times the plain loop, share of the peak."""
    lines = ["| network | " + " | ".join(SHOWN) + " |", "|---|" + "---|" * len(SHOWN)]
    for name, variants in found.items():
        cells = [
            f"{v['images_per_second']:,} ({v['times_plain']:.1f}x, {v['share_of_peak']:.0%})"
            for v in (variants[variant] for variant in SHOWN)
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file for all measurements")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = {}
    for name in given.networks:
        found[name] = measure(name, given.pairs, given.seconds)
        print(f"{name} done", file=sys.stderr, flush=True)
        if given.json:
            facts = {"threads": given.threads, "batch_size": BATCH, "pairs": given.pairs}
            given.json.write_text(json.dumps(facts | {"networks": found}, indent=1) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
