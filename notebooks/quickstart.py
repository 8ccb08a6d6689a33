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
# least this accuracy. This notebook goes from a budget to a verdict in less than a minute on two
# cores.

# %%
# On Colab, or wherever smidgen is not installed yet; otherwise this installs nothing.
import importlib.util

if importlib.util.find_spec("smidgen") is None:
    import subprocess
    import sys

    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "smidgen"], check=True)

# %% [markdown]
# ## The experiment
#
# An experiment says what to train: a target in words, the budget, the network, the data and the
# training settings. This one comes with smidgen and uses 1,797 handwritten digits that need no
# download. To use MNIST, change the first line to `"quickstart"`: it is downloaded if necessary,
# and training takes longer.

# %%
EXPERIMENT = "quickstart-digits"

import smidgen

experiment = smidgen.find_experiment(EXPERIMENT)
print(experiment.to_toml())

# %% [markdown]
# ## Before training
#
# Layers, parameters, multiply-adds, receptive fields and memory are known without training. A
# network that exceeds its budget would be stopped here.

# %%
from smidgen.models import build

network = build(experiment.model, (1, 28, 28), num_classes=10)
profile = smidgen.profile(network, (1, 28, 28))
print(experiment.budget.check(profile, epochs=experiment.train.epochs))

# %%
profile

# %% [markdown]
# ## Training
#
# The last training images are the validation set: every choice is made on them. The test images are
# scored once, after the last epoch. All results go to a new folder below `runs/`.

# %%
from smidgen.record import Epoch


class PrintEpochs(smidgen.Callback):
    """Prints one line for each epoch."""

    def on_epoch_end(self, epoch: Epoch, *_: object) -> None:
        score = epoch.validation or epoch.train
        print(f"{epoch.epoch:>3}  loss {score.loss:.4f}  accuracy {score.accuracy:>7.2%}")


result = smidgen.train(experiment, smidgen.RunOptions(seed=0), [PrintEpochs()])

# %% [markdown]
# ## The verdict
#
# The budget compared with the result, one line for each limit. A finite test set only gives a
# confidence interval for the accuracy.

# %%
from smidgen.stats import wilson_interval

test = result.record.test
low, high = wilson_interval(test.num_correct, test.num_images)
print(result.verdict)
print()
print(f"{test.num_correct} of {test.num_images} test images are classified correctly.")
print(f"95 % confidence interval of the accuracy: {low:.2%} to {high:.2%}")

# %% [markdown]
# ## The report
#
# The run's folder has a page (`report.html`) with curves, samples, errors, calibration, tables and
# the command that repeats the run. Here are some of its plots:

# %%
from PIL import Image

Image.open(result.folder / "figures" / "accuracy.png")

# %%
Image.open(result.folder / "figures" / "loss.png")

# %% [markdown]
# Training images, each with one augmented version below it:

# %%
Image.open(result.folder / "figures" / "samples.png")

# %% [markdown]
# The confusion matrix, true classes against predicted classes:

# %%
Image.open(result.folder / "figures" / "confusion.png")

# %% [markdown]
# Parameters and multiply-adds by layer:

# %%
Image.open(result.folder / "figures" / "cost.png")

# %% [markdown]
# ## The trained network
#
# The result includes the trained network, and `smidgen.load_network("runs/...")` loads it again
# later. It takes raw pixels from 0 to 255.

# %%
digits = smidgen.load(experiment.data).test
network = smidgen.load_network(result.folder)
predicted = network(digits.images[:10]).argmax(1)
print("predicted:", predicted.tolist())
print("true:     ", digits.labels[:10].tolist())

# %% [markdown]
# ## The files
#
# All tables and plots are made from the record (`run.json`). The weights are a safetensors file,
# which executes no code when it is read.

# %%
for path in sorted(result.folder.iterdir()):
    print(path.name)

# %% [markdown]
# `smidgen check RUN` recomputes the results from the weights and compares them with the record,
# `smidgen report RUN RUN` compares several runs, and `smidgen predict RUN IMAGE` classifies images.
# Next: three attempts under 8,000 parameters (`three_attempts.ipynb`) and custom data
# (`custom_data.ipynb`).
