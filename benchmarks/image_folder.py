"""Time the first and the second start on an image folder in the shape of CIFAR-10.

    python benchmarks/image_folder.py [--images N]

writes a folder of N JPEG files (default: 50,000) of 32x32 in color, in ten classes, and starts on
it three times in separate processes: one only opens it, which reads its headers; the next
decodes its images into the cache; the last maps them. The time to import torch is shown separately.
Targets on two cores: 60 s for the second, 2 s for the third.
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
start = time.perf_counter()
import torch
from smidgen.data import open_dataset
imported = time.perf_counter()
source = open_dataset(sys.argv[1])
opened = time.perf_counter()
result = [*source.info.image_shape, source.info.num_classes]
if sys.argv[2] == "load":
    dataset = source.load()
    result += [len(split) for split in dataset.splits.values()] + [dataset.sha256[:12]]
print(json.dumps({
    "import": imported - start,
    "open": opened - imported,
    "load": time.perf_counter() - opened,
    "result": result,
}))
"""


def write_images(folder: Path, count: int) -> None:
    generator = np.random.default_rng(0)
    for number in range(count):
        place = folder / "train" / f"class-{number % 10}"
        if number < 10:
            place.mkdir(parents=True)
        coarse = generator.integers(0, 256, (4, 4, 3), np.uint8)
        image = Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC)
        image.save(place / f"{number:05}.jpg", quality=90)


def start(folder: Path, cache: Path, what: str) -> dict[str, object]:
    started = time.perf_counter()
    out = subprocess.run(
        [sys.executable, "-c", START, str(folder), what],
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return {**json.loads(out), "process": time.perf_counter() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=50_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, cache = Path(temporary) / "images", Path(temporary) / "cache"
        started = time.perf_counter()
        write_images(folder, arguments.images)
        print(f"{arguments.images:,} files written in {time.perf_counter() - started:.1f} s")
        for name, what in (("open", "open"), ("first load", "load"), ("second load", "load")):
            found = start(folder, cache, what)
            times = ", ".join(
                f"{key} {found[key]:.2f} s" for key in ("import", "open", "load", "process")
            )
            print(f"{name}: {times}; {found['result']}")


if __name__ == "__main__":
    main()
