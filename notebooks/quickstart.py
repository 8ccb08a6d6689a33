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
# smidgen trains image classifiers that must stay small: so many parameters, so many epochs, at
# least this accuracy. This notebook goes once from a budget to a verdict, in under a minute on
# two cores.

# %%
# On Colab, and wherever smidgen is not installed yet; elsewhere this does nothing.
import importlib.util

if importlib.util.find_spec("smidgen") is None:
    import subprocess
    import sys

    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "smidgen"], check=True)


# %% [markdown]
# ## The experiment
#
# What is to be done stands in one place: the target in words, the budget, the network, the data
# and the training. This one comes with smidgen and uses 1,797 real handwritten digits that need
# no download. For MNIST, change the first line to `"quickstart"`: it is downloaded where it is
# not at hand, and then an epoch takes a while.

# %%
EXPERIMENT = "quickstart-digits"

import smidgen

experiment = smidgen.find_experiment(EXPERIMENT)
print(experiment.to_toml())

# %% [markdown]
# ## Before any training
#
# Layers, parameters, multiply-adds, receptive fields and memory are known without training; a
# network over its budget would stop here.

# %%
from smidgen.data import open_dataset
from smidgen.runs.prepare import prepare_network

network, profile = prepare_network(experiment, open_dataset(experiment.data).info)
print(profile)
print()
print(experiment.budget.check(profile, epochs=experiment.train.epochs))

# %% [markdown]
# ## Training
#
# The last training images are set aside, and everything is chosen by them; the test images are
# scored once, after the last epoch. What came of it goes to a folder of its own below `runs/`.

# %%
from smidgen.record import Epoch
from smidgen.report import percent


def tell(epoch: Epoch, _: float) -> None:
    """One line for each epoch."""
    counted = epoch.validation or epoch.train
    print(f"{epoch.epoch:>3}  loss {counted.loss:.4f}  accuracy {percent(counted.accuracy):>8}")


outcome = smidgen.train(experiment, smidgen.RunOptions(seed=0), smidgen.Listener(epoch=tell))

# %% [markdown]
# ## The verdict
#
# Budget against record, a line for each limit. One test set allows an interval only, and the
# sentence below says which.

# %%
from smidgen.stats import wilson_interval

record, folder = outcome.record, outcome.folder
low, high = wilson_interval(record.test.num_correct, record.test.num_images)
print(outcome.verdict)
print()
print(
    f"{record.test.num_correct} of {record.test.num_images} test images are right; with 95 % "
    f"confidence the accuracy lies between {percent(low)} and {percent(high)}."
)

# %% [markdown]
# ## The report
#
# The folder of the run holds a page (`report.html`) with everything: curves, samples, mistakes,
# calibration, tables, and the command that repeats it. Its pictures, one by one:

# %%
from PIL import Image

Image.open(folder / "figures" / "accuracy.png")

# %%
Image.open(folder / "figures" / "loss.png")

# %% [markdown]
# Training images, and below each of them one draw of the augmentation:

# %%
Image.open(folder / "figures" / "samples.png")

# %% [markdown]
# Who is taken for whom:

# %%
Image.open(folder / "figures" / "confusion.png")

# %% [markdown]
# Where the parameters and the multiply-adds go:

# %%
Image.open(folder / "figures" / "cost.png")

# %% [markdown]
# ## What is left to keep
#
# The record (`run.json`) is what every table and picture is made from; the weights are a
# safetensors file, which runs no code when it is read.

# %%
for path in sorted(folder.iterdir()):
    print(path.name)

# %% [markdown]
# `smidgen check RUN` counts and scores again from the weights and holds both against the record,
# `smidgen report RUN RUN` puts several runs side by side, and `smidgen predict RUN PICTURE`
# classifies pictures. Next: three attempts under 8,000 parameters (`three_attempts.ipynb`), and
# data of your own (`own_data.ipynb`).
