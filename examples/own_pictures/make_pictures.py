"""A folder of colour pictures to try things on: patches of two photographs from scikit-learn.

    python examples/own_pictures/make_pictures.py pictures
    smidgen data show pictures
    smidgen train examples/own_pictures/experiment.toml --data.path pictures

The left two thirds of each photograph give pictures/train/, the rest pictures/test/.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

SIDE = 32
COUNTS = {"train": 400, "test": 100}  # of each class


def main(folder: Path) -> None:
    """Write the pictures below `folder`."""
    random = np.random.default_rng(0)
    for name, file in (("temple", "china.jpg"), ("flower", "flower.jpg")):
        photo = load_sample_image(file)  # (height, width, 3)
        height, width = photo.shape[0], photo.shape[1]
        border = 2 * width // 3
        for part, columns in (("train", (0, border)), ("test", (border, width))):
            place = folder / part / name
            place.mkdir(parents=True, exist_ok=True)
            for number in range(COUNTS[part]):
                top = int(random.integers(0, height - SIDE))
                left = int(random.integers(columns[0], columns[1] - SIDE))
                patch = photo[top : top + SIDE, left : left + SIDE]
                Image.fromarray(patch).save(place / f"{number:03}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "pictures"))
