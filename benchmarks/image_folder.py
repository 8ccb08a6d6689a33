"""Times the first and the second start on an image folder in the shape of CIFAR-10.

    python benchmarks/image_folder.py [--images N]

makes a folder of N (50,000 unless said) JPEG files of 32x32 in colour, in ten classes, and starts
on it three times in processes of their own: the first decodes, the second maps what the first kept,
the third is smidgen.data.describe alone. The time of importing torch is told apart. Targets on two
cores: 60 s and 2 s.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

START = """
import json, sys, time
begun = time.perf_counter()
import torch
from smidgen.config import Data
from smidgen.data import load, open_dataset
imported = time.perf_counter()
data = Data(path=sys.argv[1])
facts = describe(data)
described = time.perf_counter()
seen = None
if sys.argv[2] == "load":
    dataset = load(data)
    seen = [len(dataset.train), len(dataset.validation), len(dataset.test), dataset.sha256[:12]]
print(json.dumps({
    "import": imported - begun,
    "describe": described - imported,
    "load": time.perf_counter() - described,
    "facts": [*facts.image_shape, facts.num_classes],
    "seen": seen,
}))
"""


def make(folder: Path, count: int) -> None:
    generator = np.random.default_rng(0)
    for number in range(count):
        place = folder / "train" / f"class-{number % 10}"
        if number < 10:
            place.mkdir(parents=True)
        coarse = generator.integers(0, 256, (4, 4, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC)
        picture.save(place / f"{number:05}.jpg", quality=90)


def start(folder: Path, cache: Path, what: str) -> dict[str, object]:
    begun = time.perf_counter()
    out = subprocess.run(
        [sys.executable, "-c", START, str(folder), what],
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return {**json.loads(out), "process": time.perf_counter() - begun}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=50_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, cache = Path(temporary) / "pictures", Path(temporary) / "cache"
        begun = time.perf_counter()
        make(folder, given.images)
        print(f"{given.images:,} files made in {time.perf_counter() - begun:.1f} s")
        for name, what in (("first start", "load"), ("second start", "load"), ("describe", "")):
            told = start(folder, cache, what)
            times = ", ".join(
                f"{key} {told[key]:.2f} s" for key in ("import", "describe", "load", "process")
            )
            print(f"{name}: {times}; {told['facts']} {told['seen']}")


if __name__ == "__main__":
    main()
