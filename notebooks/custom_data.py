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
# From arrays of your own to a trained network: an `.npz` file, an experiment built in Python, and
# predictions for pictures that were drawn by hand. Folders of pictures, IDX files and CSV files
# work the same way (docs/data.md).

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
# scikit-learn's digits stand in for your arrays here: 8x8 numbers from 0 to 16. What smidgen
# reads is a file with `x_train`, `y_train`, `x_test` and `y_test`: images of integers from 0 to
# 255, grayscale (images, height, width) or in colour (images, height, width, 3), and a label for
# each.

# %%
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

bundle = load_digits()


def framed(small: np.ndarray) -> np.ndarray:
    """A digit of 8x8 as MNIST has them: 20x20 in the middle of 28x28, uint8."""
    grayscale = Image.fromarray((small * 255 / 16).astype(np.uint8))
    return np.pad(np.asarray(grayscale.resize((20, 20), Image.Resampling.BILINEAR)), 4)


images = np.stack([framed(small) for small in bundle.images])  # (images, height, width)
labels = bundle.target  # (images,)
np.savez_compressed(
    "my_digits.npz",
    x_train=images[:-360],
    y_train=labels[:-360],
    x_test=images[-360:],
    y_test=labels[-360:],
)

# %% [markdown]
# From here on only the next line knows where the images come from. For MNIST it is
# `Data(name="mnist", augment=AUGMENT)`, for a folder with one folder of pictures for each class
# `Data(path="pictures", size=28, grayscale=True, augment=AUGMENT)`.

# %%
import smidgen
from smidgen import Augment, Data

AUGMENT = Augment(rotate=12, translate=0.07, scale=0.1, shear=0.2, no_aug_epochs=1)
DATA = Data(path="my_digits.npz", augment=AUGMENT)

dataset = smidgen.load(DATA)
print(f"{len(dataset.train):,} to train on, {len(dataset.validation):,} to choose by")
print(f"{len(dataset.test):,} to test, in the classes {', '.join(dataset.classes)}")

# %% [markdown]
# Whether they arrived as they should shows at a glance: bright on black, the right way up, not
# mirrored.

# %%
first = dataset.train.images[:42, 0].numpy()  # (images, height, width)
Image.fromarray(np.vstack([np.hstack(list(first[row : row + 14])) for row in (0, 14, 28)]))

# %% [markdown]
# ## An experiment in Python
#
# The same as a TOML file, with the same checks: a value that makes no sense is refused with a
# sentence that says what would.

# %%
from smidgen import Average, Budget, Experiment, Model, Optimizer, Schedule, Train

try:
    Budget(min_accuracy=95)
except smidgen.SmidgenError as error:
    print(error)

experiment = Experiment(
    name="my-digits",
    target="Under 4,000 parameters and 95 % on my own arrays.",
    budget=Budget(max_params=3_999, max_epochs=20, min_accuracy=0.95),
    model=Model(chain="6 8 M 10 10 12 G"),
    data=DATA,
    train=Train(
        epochs=20,
        batch_size=32,
        optimizer=Optimizer(name="sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
        schedule=Schedule(name="one-cycle", warmup=0.2),
        average=Average(name="ema", decay=0.98),
    ),
)

# %%
from smidgen.data import open_dataset
from smidgen.runs.prepare import prepare_network

network, profile = prepare_network(experiment, open_dataset(experiment.data).info)
print(profile)

# %%
from smidgen.report import percent

outcome = smidgen.train(
    experiment,
    smidgen.RunOptions(seed=0),
    smidgen.Listener(
        epoch=lambda epoch, _: print(f"{epoch.epoch:>3}  {percent(epoch.validation.accuracy):>8}")
    ),
)
print(outcome.verdict)

# %%
Image.open(outcome.folder / "figures" / "accuracy.png")

# %%
Image.open(outcome.folder / "figures" / "confusion.png")

# %% [markdown]
# `experiment.toml` in the run's folder is this experiment as a file, for `smidgen train`, and
# `smidgen check` counts and scores again from the weights:

# %%
found = smidgen.check(outcome.folder)
print("equals its record" if not found.differences else found.differences)

# %% [markdown]
# ## Pictures from elsewhere
#
# Pictures are taken as those of the training were: any size will do, but what was bright on black
# there should be bright on black here. Some test images, enlarged, stand in for your pictures.

# %%
from pathlib import Path

pictures = Path("pictures")
pictures.mkdir(exist_ok=True)
paths = [pictures / f"{number}.png" for number in range(6)]
for path, image in zip(paths, dataset.test.images[:, 0].numpy(), strict=False):
    Image.fromarray(image).resize((140, 140), Image.Resampling.BICUBIC).save(path)

Image.fromarray(np.hstack([np.asarray(Image.open(path)) for path in paths]))

# %%
for prediction in smidgen.predict(outcome.folder, paths):
    likely = ", ".join(f"{name} {percent(share)}" for name, share in prediction.classes[:3])
    print(f"{prediction.path.name}: {likely}")

# %% [markdown]
# The same in dark on white. Digits for a network of MNIST are turned round by themselves; what is
# right for your own pictures smidgen cannot know, and a network that never saw these is wrong, and
# certain of it. Show it both, or turn the pictures round first.

# %%
for path in paths:
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
for prediction in smidgen.predict(outcome.folder, paths):
    name, share = prediction.classes[0]
    print(f"{prediction.path.name}: {name} {percent(share)}")
