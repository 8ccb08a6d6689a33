# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own data
#
# An experiment built in Python, trained on arrays from anywhere, and tried on pictures that were
# drawn by hand. What the arrays must be: 28x28 grey images of ten classes, bright on black, as
# uint8.

# %%
# On Colab, and wherever smidgen is not installed yet; elsewhere this does nothing.
import importlib.util

if importlib.util.find_spec("smidgen") is None:
    import subprocess
    import sys

    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "smidgen"], check=True)

# %% [markdown]
# ## Arrays
#
# scikit-learn's digits stand in for your own arrays here: 8x8 numbers from 0 to 16. For MNIST,
# change the next cell's first line: the rest stays as it is.

# %%
DATA = "arrays"

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

import smidgen
from smidgen.data.parts import Decoded, Part, TestPart, set_aside

bundle = load_digits()


def framed(small: np.ndarray) -> np.ndarray:
    """A digit of 8x8 as MNIST has them: 20x20 in the middle of 28x28, uint8."""
    grey = Image.fromarray((small * 255 / 16).astype(np.uint8))
    return np.pad(np.asarray(grey.resize((20, 20), Image.Resampling.BILINEAR)), 4)


images = np.stack([framed(small) for small in bundle.images])  # (images, height, width)
labels = bundle.target.astype(np.int64)  # (images,)

# The last 360 are kept for the test; of the rest, the last 300 are set aside to choose by.
tensors = torch.from_numpy(images)[:, None], torch.from_numpy(labels)  # channels come second
dataset = set_aside(
    Decoded(
        name="digits",
        source="my arrays",
        train=Part(*(tensor[:-360] for tensor in tensors)),
        test=TestPart(*(tensor[-360:] for tensor in tensors)),
        classes=tuple("0123456789"),
        usual_validation=300,
    ),
    validation=None,
)
if DATA == "mnist":
    dataset = smidgen.load(smidgen.Data(name="mnist"))
    images = dataset.train.images[:, 0].numpy()
print(f"{len(dataset.train):,} to train on, {len(dataset.validation):,} to choose by")

# %% [markdown]
# Whether they arrived as they should shows at a glance: bright on black, the right way up, not
# mirrored.

# %%
Image.fromarray(np.vstack([np.hstack(list(images[row : row + 14])) for row in (0, 14, 28)]))

# %% [markdown]
# ## An experiment in Python
#
# The same as a TOML file, with the same checks: a value that makes no sense is refused with a
# sentence that says what would.

# %%
from smidgen import (
    Augment,
    Average,
    Budget,
    Data,
    Experiment,
    Model,
    Optimizer,
    Schedule,
    Train,
)

try:
    Budget(min_accuracy=95)
except smidgen.SmidgenError as error:
    print(error)

experiment = Experiment(
    name="my-digits",
    target="Under 4,000 parameters and 95 % on my own arrays.",
    budget=Budget(max_params=3_999, max_epochs=20, min_accuracy=0.95),
    model=Model(chain="6 8 M 10 10 12 G"),
    data=Data(
        name=dataset.name,
        augment=Augment(rotate=12, translate=0.07, scale=0.1, shear=0.2, clean_epochs=1),
    ),
    train=Train(
        epochs=20,
        batch_size=32,
        optimizer=Optimizer(name="sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
        schedule=Schedule(name="one-cycle", warmup=0.2),
        average=Average(name="ema", decay=0.98),
    ),
)

# %%
from smidgen.run import prepare

network, profile = prepare(experiment)
print(smidgen.summary(profile))

# %%
from smidgen.report import percent

outcome = smidgen.train(
    experiment,
    smidgen.Where(seed=0),
    smidgen.Listener(epoch=lambda e: print(f"{e.epoch:>3}  {percent(e.validation.accuracy):>8}")),
    dataset=dataset,
)
print(smidgen.verdict_text(outcome.verdict))

# %%
Image.open(outcome.folder / "figures" / "accuracy.png")

# %%
Image.open(outcome.folder / "figures" / "confusion.png")

# %% [markdown]
# `experiment.toml` in the run's folder is this experiment as a file; `smidgen check` would look
# for the data set of that name, though, and say that these arrays are others.

# %% [markdown]
# ## Pictures that were drawn
#
# Any size, dark on bright or bright on dark: the drawing is cut out, scaled and centred as the
# digits were. These strokes stand in for a mouse or a camera.

# %%
from pathlib import Path

from PIL import ImageDraw

STROKES = {
    "0": [[(100, 40), (60, 70), (55, 130), (95, 165), (140, 135), (145, 75), (100, 40)]],
    "1": [[(80, 70), (105, 40), (105, 165)]],
    "2": [[(60, 70), (90, 42), (135, 60), (125, 100), (60, 162), (145, 160)]],
    "4": [[(120, 165), (122, 40), (55, 120), (150, 120)]],
    "7": [[(60, 45), (145, 45), (90, 165)]],
}
drawn = Path("drawn")
drawn.mkdir(exist_ok=True)
paths = []
for digit, strokes in STROKES.items():
    picture = Image.new("L", (200, 200), "white")
    for points in strokes:
        ImageDraw.Draw(picture).line(points, fill=20, width=14, joint="curve")
    paths.append(drawn / f"{digit}.png")
    picture.save(paths[-1])

# %%
for prediction in smidgen.predict(outcome.folder, paths):
    likely = ", ".join(f"{name} {percent(share)}" for name, share in prediction.classes[:3])
    print(f"{prediction.path.name}: {likely}")

# %%
Image.fromarray(np.hstack([np.asarray(Image.open(path)) for path in paths]))

# %% [markdown]
# Drawn digits are not what it learnt from, so its certainty is worth less here than on the test
# images; a few hundred of your own drawings among the training images mend that.
