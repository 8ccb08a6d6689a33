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
# From a large network to one that fits a budget. Each attempt has a target, a result and an
# analysis. All attempts train for the same number of epochs, from the same seed and on the same
# images.

# %%
# On Colab, or wherever smidgen is not installed yet: it is not on the package index.
import importlib.util

if importlib.util.find_spec("smidgen") is None:
    raise SystemExit("First run: %pip install git+URL, with the address of smidgen's repository.")

# %% [markdown]
# ## The budget
#
# To use MNIST instead of the embedded digits, change the first line to `"mnist"`; the target and
# the number of epochs change with it.

# %%
DATA = "digits"

import dataclasses

import smidgen
from smidgen import (
    Augment,
    Average,
    Budget,
    Data,
    Experiment,
    Model,
    Optimizer,
    RunResult,
    Schedule,
    Train,
)

EPOCHS, ACCURACY = {"digits": (20, 0.97), "mnist": (12, 0.993)}[DATA]
budget = Budget(max_params=7_999, max_epochs=EPOCHS, min_accuracy=ACCURACY)
dataset = smidgen.load(DATA)
print(f"{len(dataset.train):,} training images, {len(dataset.validation):,} validation images")


def attempt(experiment: Experiment) -> RunResult:
    """Train the experiment and print the result."""
    result = smidgen.train(experiment, smidgen.RunOptions(seed=0))
    if result.record is None:
        print("stopped before training: the network exceeds the budget")
    else:
        last = result.record.epochs[-1]
        print(f"training accuracy    {last.train.accuracy:>7.2%}")
        print(f"validation accuracy  {last.validation.accuracy:>7.2%}")
    print(result.verdict)
    return result


# %% [markdown]
# ## Attempt 1: large
#
# **Target.** Find out whether the data can be learned at all, with a typical first network:
# channels that double, and a fully connected layer at the end. No augmentation, a constant learning
# rate.
#
# A network is one line of chain notation: `16` is a 3x3 convolution to 16 channels with batch norm
# and ReLU, `M` a 2x2 max-pool, and `F` flattens and classifies.

# %%
simple = Train(
    epochs=EPOCHS,
    batch_size=32 if DATA == "digits" else 128,
    optimizer=Optimizer(name="sgd", lr=0.02, momentum=0.9, nesterov=True),
)
first = Experiment(
    name="attempt-1-large",
    target="Learn the data at all.",
    budget=budget,
    model=Model(chain="16 16 M 32 32 M F"),
    data=Data(name=DATA),
    train=simple,
)
first_result = attempt(first)

# %% [markdown]
# **Result.** The budget stops it before the first step: the network is nearly three times too
# large, and no time is wasted on it. To learn something anyway, train it once without the limit on
# parameters.

# %%
first = dataclasses.replace(first, budget=dataclasses.replace(budget, max_params=None))
first_result = attempt(first)

# %%
first_result.plot("network")

# %%
first_result.record.profile

# %% [markdown]
# **Analysis.** Every training image is classified correctly, but one test image in twenty is not:
# the network memorizes its images. The table shows where the parameters are: two thirds are in two
# layers, the last convolution and the fully connected one.

# %% [markdown]
# ## Attempt 2: the same, but narrower
#
# **Target.** Fit the budget in the simplest way: divide all channels by four.

# %%
second = Experiment(
    name="attempt-2-narrow",
    target="Fit the budget with fewer channels only.",
    budget=budget,
    model=Model(chain="4 4 M 8 8 M F"),
    data=Data(name=DATA),
    train=simple,
)
second_result = attempt(second)

# %% [markdown]
# **Result.** A ninth of the parameters, far below the limit, and five percentage points less test
# accuracy.
#
# **Analysis.** Two things stand out. More than half of the parameters are in the fully connected
# layer, which connects every class to every position of the feature map. And every training image
# is still classified correctly: the network is not too small to learn them. It sees too few images,
# so it should see them in more variations.

# %% [markdown]
# ## Attempt 3: a different architecture and recipe
#
# **Target.** The budget. `G` averages each channel over the feature map and classifies the
# averages, so the head needs few parameters, which are better spent on convolutions; these see 22
# of 28 pixels before the average. Images are slightly rotated, shifted, scaled and sheared, the
# learning rate rises and falls once, and the final network is a running average of the weights.

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
        simple,
        optimizer=Optimizer(name="sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
        schedule=Schedule(name="one-cycle", warmup=0.2),
        average=Average(name="ema", decay=0.98 if DATA == "digits" else 0.995),
    ),
)
third_result = attempt(third)

# %%
third_result.plot("network")

# %% [markdown]
# **Result.** Inside the budget, for every limit.
#
# **Analysis.** Not every training image is classified correctly any longer, but more test images
# are: the training images are now harder than the test images. Two things changed at once, so this
# run alone does not show which of them helped; undo one of them and run the cell again.

# %% [markdown]
# ## Comparison
#
# `smidgen report RUN RUN RUN` writes a page that compares runs. Here are two plots from
# the records.

# %%
import matplotlib.pyplot as plt

results = [first_result, second_result, third_result]
figure, (curves, sizes) = plt.subplots(1, 2, figsize=(11, 4))
for result in results:
    record = result.record
    name, epochs = record.experiment.name, record.epochs
    [line] = curves.plot(
        [epoch.epoch for epoch in epochs],
        [100 * epoch.validation.accuracy for epoch in epochs],
        label=name,
    )
    sizes.semilogx(
        record.profile.num_params,
        100 * record.test.score.accuracy,
        "o",
        markersize=10,
        color=line.get_color(),
    )
curves.set(xlabel="epoch", ylabel="validation accuracy, %", ylim=(85, 100))
curves.legend()
sizes.axvline(budget.max_params, color="gray", linestyle=":")
sizes.axhline(100 * budget.min_accuracy, color="gray", linestyle=":")
sizes.set(xlabel="parameters", ylabel="test accuracy, %")
for result in results:
    record = result.record
    print(
        f"{record.experiment.name:<18}{record.profile.num_params:>8,} parameters"
        f"{record.profile.macs:>12,} multiply-adds{record.test.score.accuracy:>10.2%}"
    )

# %% [markdown]
# The test images that the last network gets wrong, the worst first:

# %%
third_result.plot("worst-predictions")

# %% [markdown]
# One seed and a few hundred test images prove no more than this: differences of one percentage
# point may be chance. Repeat an attempt with other seeds before you trust its last decimal.
