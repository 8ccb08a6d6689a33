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
# # Quickstart
#
# smidgen trains image classifiers that must stay small: at most this many parameters and epochs, at
# least this accuracy. This notebook goes from images and a network to a verdict in less than a
# minute on two cores.

# %%
# On Colab, or wherever smidgen is not installed yet: it is not on the package index.
import importlib.util

if importlib.util.find_spec("smidgen") is None:
    raise SystemExit("First run: %pip install git+URL, with the address of smidgen's repository.")

# %% [markdown]
# ## The images
#
# 1,797 handwritten digits that come with smidgen. `"mnist"` instead is downloaded if necessary, and
# trains longer; arrays, torch data sets and folders of images work too (`custom_data.ipynb`).

# %%
import smidgen

DATA = "digits"
data = smidgen.load(DATA)
print(
    f"{len(data.train):,} training, {len(data.validation)} validation, {len(data.test)} test images"
)

# %%
import matplotlib.pyplot as plt

figure, places = plt.subplots(2, 10, figsize=(10, 2.4))
for place, image, label in zip(places.flat, data.train.images, data.train.labels, strict=False):
    place.imshow(image[0].numpy(), cmap="gray")  # (1, 28, 28), pixels from 0 to 255
    place.set_title(data.classes[label])
    place.set_axis_off()

# %% [markdown]
# ## The network
#
# Any PyTorch module that turns images into one score for each class. `"8 8 M 14 14 14 16 G"` is the
# same network in chain notation.

# %%
from torch import nn


def convolution(inputs, outputs):
    """3x3, with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def small_network():
    """From (batch, 1, height, width) to (batch, 10)."""
    return nn.Sequential(
        convolution(1, 8),
        convolution(8, 8),
        nn.MaxPool2d(2),
        convolution(8, 14),
        convolution(14, 14),
        convolution(14, 14),
        convolution(14, 16),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


# %% [markdown]
# Its layers, parameters, multiply-adds, receptive fields and memory are known without training:

# %%
profile = smidgen.profile(small_network(), (1, 28, 28))
profile

# %% [markdown]
# What one unit of each layer sees of an image:

# %%
from smidgen.report import network_plot

network_plot(profile, data.train.images[25].numpy())

# %% [markdown]
# ## The budget
#
# A network that exceeds its budget would not be trained at all.

# %%
EPOCHS, ACCURACY = {"digits": (20, 0.96), "mnist": (14, 0.994)}[DATA]
budget = smidgen.Budget(max_params=7_999, max_epochs=EPOCHS, min_accuracy=ACCURACY)
budget.check(profile, epochs=EPOCHS)

# %% [markdown]
# ## Training
#
# The last training images are the validation set: every choice is made on them. The test images
# are scored once, after the last epoch. Training images are rotated, moved, scaled and sheared a
# little.

# %%
from smidgen import Augment, Average, Data, Optimizer, Schedule, Train


class PrintEpochs(smidgen.Callback):
    """Prints the validation accuracy after each epoch."""

    def on_epoch_end(self, epoch, *_):
        print(f"{epoch.epoch:>3}  {epoch.validation.accuracy:>7.2%}")


result = smidgen.train(
    model=small_network,
    data=Data(name=DATA, augment=Augment(rotate=12, translate=0.07, scale=0.1, shear=0.2)),
    budget=budget,
    settings=Train(
        epochs=EPOCHS,
        batch_size=32 if DATA == "digits" else 128,
        optimizer=Optimizer(name="sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
        schedule=Schedule(name="one-cycle", warmup=0.2),
        average=Average(name="ema", decay=0.98 if DATA == "digits" else 0.995),
    ),
    options=smidgen.RunOptions(seed=0),
    callbacks=[PrintEpochs()],
)

# %% [markdown]
# ## The verdict
#
# The budget compared with the result, one line for each limit.

# %%
test = result.record.test
print(f"{test.num_correct} of {test.num_images} test images are classified correctly.")
print(result.verdict)

# %% [markdown]
# ## Plots
#
# From the report, which is in the run's folder as one HTML file.

# %%
result.plot("accuracy")

# %%
result.plot("loss")

# %% [markdown]
# The test images that the network gets wrong, the worst first, and what it takes them for:

# %%
result.plot("worst-predictions")

# %% [markdown]
# Everything else is in the result's record, for any other library: here the confusion matrix with
# scikit-learn.

# %%
import numpy as np
from sklearn.metrics import ConfusionMatrixDisplay

confusion = np.array(result.record.test.confusion)  # true by predicted class
display = ConfusionMatrixDisplay(confusion, display_labels=data.classes).plot(cmap="Blues")

# %% [markdown]
# ## The trained network
#
# It takes raw pixels from 0 to 255 and is in eval mode.

# %%
network = result.network
print("predicted:", network(data.test.images[:10]).argmax(1).tolist())
print("true:     ", data.test.labels[:10].tolist())

# %% [markdown]
# ## The files
#
# All tables and plots are made from the record (`run.json`). The weights are a safetensors file,
# which executes no code when it is read.

# %%
for path in sorted(result.folder.iterdir()):
    print(path.name)

# %% [markdown]
# `smidgen.check` scores the weights again and compares everything with the record. A network that
# was passed in Python has to be passed again; one in a file or in chain notation need not be.

# %%
print(smidgen.check(result.folder, model=small_network))

# %% [markdown]
# Next: three attempts under 8,000 parameters (`three_attempts.ipynb`) and custom data
# (`custom_data.ipynb`). On the command line, `smidgen train "8 8 M 14 14 14 16 G" --data digits`
# trains, `smidgen report RUN RUN` compares runs, and `smidgen predict RUN IMAGE` classifies images.
