"""Write a folder of color images to experiment with: patches of two photographs from scikit-learn.

    python examples/custom_images/make_images.py images
    smidgen data show images
    smidgen train examples/custom_images/experiment.toml --data.path images

The left two thirds of each photograph become images/train/, the rest images/test/.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

SIDE = 32
COUNTS = {"train": 400, "test": 100}  # per class


def main(folder: Path) -> None:
    """Write the images below `folder`."""
    random = np.random.default_rng(0)
    for name, file in (("temple", "china.jpg"), ("flower", "flower.jpg")):
        photo = load_sample_image(file)  # (height, width, 3)
        height, width = photo.shape[0], photo.shape[1]
        border = 2 * width // 3
        for split, columns in (("train", (0, border)), ("test", (border, width))):
            class_folder = folder / split / name
            class_folder.mkdir(parents=True, exist_ok=True)
            for number in range(COUNTS[split]):
                top = int(random.integers(0, height - SIDE))
                left = int(random.integers(columns[0], columns[1] - SIDE))
                patch = photo[top : top + SIDE, left : left + SIDE]
                Image.fromarray(patch).save(class_folder / f"{number:03}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "images"))
