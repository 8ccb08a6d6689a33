"""Measures the code sizes and stacks by which flash and RAM are estimated before training.

    python benchmarks/code_sizes.py

Compiles networks with different features for every target, runs them in its simulator, fits the
size of the code and the stack by features, and writes code_sizes.json in smidgen.exporters.targets.
Run it again when the C code changes; tests/exporters/test_estimate.py checks the result on other
networks.
"""

import itertools
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

import smidgen
from smidgen.exporters.c import c_code, code_summary
from smidgen.exporters.targets import TARGETS, measure
from smidgen.exporters.targets.estimate import untrained_integers
from smidgen.models.chain import build_chain

CHAINS = [
    "4,s2 G",
    "4,s2 6,s2 G",
    "4,p1 M 6,p1 G",
    "4 M 8,d G",
    "4,p1 4,p1,r M 6 G",
    "4,p1 4,p1,r 8,d,p1 G",
    "4,p1,s2 6,k2 A 8,k1 F",
    "4,s2 6,k1 F",
    "6,k5,s2 8,k2 M F",
]
COLOR = ["4,p1 M 6,p1 G", "4,s2 6,s2 F"]
SIDE, CLASSES = 12, 10


def dilated() -> nn.Module:
    """What chains do not have."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, dilation=2, padding=2),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * 36, CLASSES),
    )


def normalized_last(channels: int) -> nn.Module:
    """With batch norms after the activations."""
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1 if channels > 1 else 0),
        nn.ReLU(),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, CLASSES, 3),
        nn.ReLU(),
        nn.BatchNorm2d(CLASSES),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def main() -> None:
    """Measure, fit and write."""
    chains = [(1, chain) for chain in CHAINS] + [(3, chain) for chain in COLOR]
    shapes = [((channels, SIDE, SIDE), chain) for channels, chain in chains]
    networks: list[tuple[nn.Module, tuple[int, int, int]]]
    networks = [(build_chain(chain, shape, CLASSES), shape) for shape, chain in shapes]
    networks += [(dilated(), (1, SIDE, SIDE))]
    networks += [(normalized_last(channels), (channels, SIDE, SIDE)) for channels in (1, 3)]
    cases = [
        untrained_integers(network, shape, bits)
        for (network, shape), bits in itertools.product(networks, (8, 4, 2))
    ]
    summaries = [code_summary(network) for network in cases]
    names = ["", *sorted({name for summary in summaries for name in summary.features})]
    has = np.array([[name in {"", *s.features} for name in names] for s in summaries], float)
    fitted = {}
    for target in TARGETS:
        code, stack = [], []
        for network, summary in zip(cases, summaries, strict=True):
            shape = (1, *network.input_shape)
            images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
            texts = c_code(network, title="", origin="", classes=[""] * CLASSES)
            found = measure(texts, target, images, network.scores(images))
            if found.flash_bytes is None or found.ram_bytes is None:
                raise SystemExit(f"{target}: {found.note}")
            code.append(found.flash_bytes - summary.data_bytes)
            stack.append(found.ram_bytes - summary.memory_bytes)
        fitted[target] = {
            kind: _fit(has, np.array(values, float), names, f"{target}, {kind}")
            for kind, values in (("code", code), ("stack", stack))
        }
    path = Path(smidgen.__file__).parent / "exporters" / "targets" / "code_sizes.json"
    path.write_text(json.dumps(fitted, indent=1) + "\n", encoding="utf-8")


def _fit(
    has: NDArray[np.float64],
    values: NDArray[np.float64],
    names: list[str],
    label: str,
) -> dict[str, float]:
    """Bytes by feature, with the smallest squared error."""
    fitted, *_ = np.linalg.lstsq(has, values, rcond=None)
    errors = np.abs(has @ fitted - values)
    print(
        f"{label}: {values.min():.0f} to {values.max():.0f} bytes; "
        f"errors: mean {errors.mean():.1f}, largest {errors.max():.1f}",
        flush=True,
    )
    return {name: round(float(value), 1) for name, value in zip(names, fitted, strict=True)}


if __name__ == "__main__":
    main()
