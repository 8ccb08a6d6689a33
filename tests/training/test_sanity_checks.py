import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smidgen.data import Dataset, TrainSplit
from smidgen.errors import DataError
from smidgen.models.chain import build_chain
from smidgen.models.reference import REFERENCE
from smidgen.record import Epoch, Score
from smidgen.training.sanity_checks import check_classes, check_first_epoch, check_network


def linear() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


class Constant(nn.Module):
    """Scores that do not depend on the images."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.arange(10.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.scores.expand(len(x), 10)


class Detached(nn.Module):
    """A layer whose parameters never learn."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(784, 20), nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(self.first(x.flatten(1)).detach())
        return scores


@pytest.mark.parametrize(
    ("network", "warning"),
    [
        (nn.Sequential(linear(), nn.Softmax(1)), r"are probabilities .* remove the final softmax"),
        (nn.Sequential(linear(), nn.ReLU()), "remove the ReLU after the last layer"),
        (Constant(), "same scores for different images"),
        (Detached(), r"get no gradient, .*: first.weight, first.bias\. Use them"),
    ],
)
def test_a_mistake_is_named_with_its_fix(digits: Dataset, network: nn.Module, warning: str) -> None:
    (found,) = check_network(network, digits)
    with pytest.raises(AssertionError, match=warning):
        raise AssertionError(found)


SOUND: list[Any] = [
    linear(),
    nn.Sequential(linear(), nn.LogSoftmax(1)),
    build_chain("8,s2 8,o0.2 M 8 G", (1, 28, 28), 10),
    *(make() for make in REFERENCE.values()),
]


@pytest.mark.parametrize("network", SOUND, ids=lambda network: type(network).__name__)
def test_a_sound_network_gets_no_warning_and_stays_as_it_is(
    digits: Dataset, network: nn.Module
) -> None:
    before, generator = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    assert check_network(network, digits) == ()
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_a_class_without_training_images_is_refused_and_few_are_noted(digits: Dataset) -> None:
    assert check_classes(digits) == ()
    labels = digits.train.labels
    without = TrainSplit(digits.train.images[labels != 3], labels[labels != 3])
    with pytest.raises(DataError, match="the class '3' has no image in the training split"):
        check_classes(replace(digits, train=without))
    few = torch.cat([(labels != 3).nonzero()[:, 0], (labels == 3).nonzero()[:4, 0]])
    scarce = TrainSplit(digits.train.images[few], labels[few])
    assert check_classes(replace(digits, train=scarce)) == (
        "Classes with fewer than 10 training images: 3 (4).",
    )


@pytest.mark.parametrize(
    ("loss", "accuracy", "warns"),
    [(2.31, 0.1, True), (2.29, 0.1, False), (2.31, 0.2, False), (9.0, 0.09, True)],
)
def test_a_first_epoch_no_better_than_guessing_is_noted(
    loss: float, accuracy: float, warns: bool
) -> None:
    score = Score(loss=loss, accuracy=accuracy)
    epoch = Epoch(epoch=1, train=score, validation=None, test=None, lr=0.1)
    assert bool(check_first_epoch(epoch, 10)) is warns
