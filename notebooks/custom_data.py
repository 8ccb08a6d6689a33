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
# # Custom data
#
# From arrays to a trained network: an `.npz` file, an experiment written in Python, and predictions
# for image files. Folders of images, IDX files and CSV files work the same way (docs/data.md).

# %%
# On Colab, or wherever smidgen is not installed yet: it is not on the package index.
import importlib.util

if importlib.util.find_spec("smidgen") is None:
    raise SystemExit("First run: %pip install git+URL, with the address of smidgen's repository.")

# %% [markdown]
# ## Arrays
#
# scikit-learn's digits, 8x8 numbers from 0 to 16, are the custom arrays here. smidgen reads a file
# with `x_train`, `y_train`, `x_test` and `y_test`: images of integers from 0 to 255, grayscale
# (images, height, width) or color (images, height, width, 3), and one label for each image.

# %%
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

bundle = load_digits()


def as_in_mnist(small: np.ndarray) -> np.ndarray:
    """Scale an 8x8 digit to 20x20 and center it in 28x28, uint8."""
    grayscale = Image.fromarray((small * 255 / 16).astype(np.uint8))
    return np.pad(np.asarray(grayscale.resize((20, 20), Image.Resampling.BILINEAR)), 4)


images = np.stack([as_in_mnist(small) for small in bundle.images])  # (images, height, width)
labels = bundle.target  # (images,)
np.savez_compressed(
    "my_digits.npz",
    x_train=images[:-360],
    y_train=labels[:-360],
    x_test=images[-360:],
    y_test=labels[-360:],
)

# %% [markdown]
# Only the `Data` below says where the images come from. For MNIST it would be `Data(name="mnist",
# augment=AUGMENT)`, and for a folder with one subfolder of images per class `Data(path="images",
# size=28, grayscale=True, augment=AUGMENT)`.

# %%
import smidgen
from smidgen import Augment, Data

AUGMENT = Augment(rotate=12, translate=0.07, scale=0.1, shear=0.2, no_aug_epochs=1)
DATA = Data(path="my_digits.npz", augment=AUGMENT)

dataset = smidgen.load(DATA)
print(f"{len(dataset.train):,} training images, {len(dataset.validation):,} validation images")
print(f"{len(dataset.test):,} test images; classes {', '.join(dataset.classes)}")

# %% [markdown]
# Look at the images: these should be bright on black, upright and not mirrored.

# %%
import matplotlib.pyplot as plt

figure, places = plt.subplots(2, 10, figsize=(10, 2.4))
for place, image, label in zip(
    places.flat, dataset.train.images, dataset.train.labels, strict=False
):
    place.imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=255)
    place.set_title(dataset.classes[label])
    place.set_axis_off()

# %% [markdown]
# ## An experiment in Python
#
# This is the same as a TOML file and is validated in the same way: an invalid value is an error
# that says what is allowed.

# %%
from smidgen import Average, Budget, Experiment, Model, Optimizer, Schedule, Train

try:
    Budget(min_accuracy=95)
except smidgen.SmidgenError as error:
    print(error)

experiment = Experiment(
    name="my-digits",
    target="Under 4,000 parameters and 95 % on custom arrays.",
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
class PrintEpochs(smidgen.Callback):
    """Prints the validation accuracy after each epoch."""

    def on_epoch_end(self, epoch, *_):
        print(f"{epoch.epoch:>3}  {epoch.validation.accuracy:>7.2%}")


result = smidgen.train(experiment, smidgen.RunOptions(seed=0), [PrintEpochs()])
print(result.verdict)

# %%
result.record.profile

# %% [markdown]
# What one unit of each layer sees of a training image, and the plots of the report:

# %%
result.plot("network")

# %%
result.plot("accuracy")

# %%
result.plot("worst-predictions")

# %% [markdown]
# The run's folder has this experiment as a file, `experiment.toml`, for `smidgen train`. `smidgen
# check` recomputes the results from the weights:

# %%
found = smidgen.check(result.folder)
print("equals its record" if not found.differences else found.differences)

# %% [markdown]
# ## Image files
#
# Images of any size can be classified, but they must look like the training images: bright on black
# if those were. Some enlarged test images serve as an example.

# %%
from pathlib import Path

folder = Path("images")
folder.mkdir(exist_ok=True)
paths = [folder / f"{number}.png" for number in range(6)]
for path, image in zip(paths, dataset.test.images[:, 0].numpy(), strict=False):
    Image.fromarray(image).resize((140, 140), Image.Resampling.BICUBIC).save(path)

Image.fromarray(np.hstack([np.asarray(Image.open(path)) for path in paths]))

# %%
for prediction in smidgen.predict(result.folder, paths):
    likely = ", ".join(f"{name} {share:.2%}" for name, share in prediction.classes[:3])
    print(f"{prediction.path.name}: {likely}")

# %% [markdown]
# Now the same images inverted, dark on white. For a network trained on MNIST, smidgen inverts such
# images itself; for custom data it cannot know what is right. A network that has never seen
# inverted images is often wrong with high confidence: train it on both, or invert the images first.

# %%
for path in paths:
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
for prediction in smidgen.predict(result.folder, paths):
    name, share = prediction.classes[0]
    print(f"{prediction.path.name}: {name} {share:.2%}")
