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
# # Three attempts under 8,000 parameters
#
# From a bulky network to one inside a budget, each attempt told as target, result and analysis.
# Every attempt trains for the same number of epochs, from the same seed, on the same images.

# %%
# On Colab, and wherever smidgen is not installed yet; elsewhere this does nothing.
import importlib.util

if importlib.util.find_spec("smidgen") is None:
    import subprocess
    import sys

    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "smidgen"], check=True)


# %% [markdown]
# ## The budget
#
# For MNIST instead of the embedded digits, change the first line to `"mnist"`; the target and the
# number of epochs go with it.

# %%
DATA = "digits"

import dataclasses
from pathlib import Path

import smidgen
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
from smidgen.report import percent, read_run, write_comparison
from smidgen.runs.run import Outcome
from smidgen.data import open_dataset
from smidgen.runs.prepare import prepare_network

EPOCHS, ACCURACY = {"digits": (20, 0.97), "mnist": (12, 0.993)}[DATA]
budget = Budget(max_params=7_999, max_epochs=EPOCHS, min_accuracy=ACCURACY)
dataset = smidgen.load(Data(name=DATA))
print(f"{DATA}: {len(dataset.train):,} to train on, {len(dataset.validation):,} to choose by")


def attempt(experiment: Experiment) -> Outcome:
    """Train it, and say what came of it."""
    outcome = smidgen.train(experiment, smidgen.RunOptions(seed=0), dataset=dataset)
    if outcome.record is None:
        print("stopped before training: the budget cannot be kept")
    else:
        last = outcome.record.epochs[-1]
        print(f"training accuracy    {percent(last.train.accuracy):>9}")
        print(f"validation accuracy  {percent(last.validation.accuracy):>9}")
    print(outcome.verdict)
    return outcome


# %% [markdown]
# ## Attempt 1: bulky
#
# **Target.** See that the data can be learnt at all, with the network that one writes down first:
# channels that double, and a fully connected layer at the end. No augmentation, a learning rate
# that stays as it is.
#
# A network is a line in compact notation: `16` is a 3x3 convolution to 16 channels with batch
# norm and ReLU, `M` a 2x2 max-pool, `F` flattens and classifies.

# %%
plain = Train(
    epochs=EPOCHS,
    batch_size=32 if DATA == "digits" else 128,
    optimizer=Optimizer(name="sgd", lr=0.02, momentum=0.9, nesterov=True),
    schedule=Schedule(name="constant"),
    average=Average(name="none"),
)
first = Experiment(
    name="attempt-1-bulky",
    target="Learn the data at all.",
    budget=budget,
    model=Model(chain="16 16 M 32 32 M F"),
    data=Data(name=DATA),
    train=plain,
)
first_outcome = attempt(first)

# %% [markdown]
# **Result.** The budget stops it before a single step: the network is nearly three times too
# large, and no time is spent on it. To learn something from it all the same, it is trained once
# without the limit on parameters.

# %%
first = dataclasses.replace(first, budget=dataclasses.replace(budget, max_params=None))
first_outcome = attempt(first)

# %%
print(first_outcome.record.profile)

# %% [markdown]
# **Analysis.** Every training image is right, and one test image in twenty is not: it learns its
# images by heart. The table says where the size is: two thirds of the parameters stand in two
# layers, the last convolution and the fully connected one.

# %% [markdown]
# ## Attempt 2: the same, narrower
#
# **Target.** Inside the budget by the shortest way: divide all channels by four.

# %%
second = Experiment(
    name="attempt-2-narrow",
    target="Inside the budget, by fewer channels alone.",
    budget=budget,
    model=Model(chain="4 4 M 8 8 M F"),
    data=Data(name=DATA),
    train=plain,
)
second_outcome = attempt(second)

# %% [markdown]
# **Result.** A ninth of the parameters, far inside the limit, and a point of test accuracy gone.
#
# **Analysis.** Two things stand out. More than half of the parameters go into the fully connected
# layer, which ties every class to every place of the map. And every training image is still
# right: it is not too small to learn them, it sees too few of them, so it should see them
# differently each time.

# %% [markdown]
# ## Attempt 3: another shape, another recipe
#
# **Target.** The budget. `G` averages each channel over the whole map and classifies what
# remains, so the head costs next to nothing and its parameters move into convolutions, which see
# 22 of 28 pixels before the average. Images are rotated, shifted, scaled and sheared a little,
# the learning rate rises and falls once, and a running average of the weights is what counts.

# %%
third = Experiment(
    name="attempt-3-inside",
    target="The budget.",
    budget=budget,
    model=Model(chain="8 8 M 14 14 14 16 G"),
    data=Data(
        name=DATA,
        augment=Augment(rotate=12, translate=0.07, scale=0.1, shear=0.2),
    ),
    train=dataclasses.replace(
        plain,
        optimizer=Optimizer(name="sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
        schedule=Schedule(name="one-cycle", warmup=0.2),
        average=Average(name="ema", decay=0.98 if DATA == "digits" else 0.995),
    ),
)
network, profile = prepare_network(third, open_dataset(third.data).info)
print(budget.check(profile, epochs=EPOCHS))

# %%
third_outcome = attempt(third)

# %% [markdown]
# **Result.** Inside the budget, on all counts.
#
# **Analysis.** Not every training image is right any longer, and more test images are: those it
# learns from are harder than those it is scored on. Two things changed at once, so this run
# alone does not say which of them did it; exchange one of them and run the cell again.

# %% [markdown]
# ## Side by side
#
# `smidgen report RUN RUN RUN` writes a page that compares runs; from Python it is one call.

# %%
outcomes = [first_outcome, second_outcome, third_outcome]
out = Path("runs") / "comparison"
out.mkdir(exist_ok=True)
write_comparison([read_run(outcome.folder) for outcome in outcomes], out)
for outcome in outcomes:
    record = outcome.record
    print(
        f"{record.experiment.name:<18}{record.profile.num_params:>8,} parameters"
        f"{record.profile.macs:>12,} multiply-adds{percent(record.test.score.accuracy):>10}"
    )

# %%
from PIL import Image

Image.open(out / "figures" / "pareto.png")

# %%
Image.open(out / "figures" / "accuracy.png")

# %% [markdown]
# What the last one still gets wrong, the most wrong first:

# %%
Image.open(third_outcome.folder / "figures" / "most-wrong.png")

# %% [markdown]
# One seed and a few hundred test images say this much and no more: differences of a percent may
# be luck. Repeat an attempt with other seeds before you believe in its last decimal.
