from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from smidgen.config import Augment
from smidgen.data import normalize
from smidgen.runs.diagnostics import EXAMPLES, MAPS, SAMPLES, WORST, collect_diagnostics

if TYPE_CHECKING:
    from smidgen.data import Dataset


class Biased(nn.Module):
    """Predicts the same class for every image, by a small margin."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 40, 3)
        self.scores = nn.Parameter(torch.arange(classes).float())

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.scores + 0.001 * self.conv(x).mean((1, 2, 3))[:, None] ** 2
        return scores


class Oracle(nn.Module):
    """Knows the test images by heart."""

    def __init__(self, digits: "Dataset") -> None:
        super().__init__()
        self.digits = digits

    def forward(self, x: Tensor) -> Tensor:
        test = self.digits.test
        known = normalize(test.images, self.digits.mean, self.digits.std).flatten(1)
        nearest = torch.cdist(x.flatten(1), known).argmin(1)
        predicted = self.predict(test.labels[nearest], nearest)
        return 20.0 * nn.functional.one_hot(predicted, 10).float()

    def predict(self, labels: Tensor, index: Tensor) -> Tensor:
        return labels


@pytest.fixture(scope="module")
def shown(digits: "Dataset") -> dict[str, Tensor]:
    torch.manual_seed(0)
    return collect_diagnostics(Biased(10), digits, Augment(rotate=20), seed=5)


def test_samples_come_evenly_from_all_classes(shown: dict[str, Tensor], digits: "Dataset") -> None:
    labels = shown["samples_labels"]
    assert torch.bincount(labels, minlength=10).tolist() == [SAMPLES // 10] * 10
    first_zero = digits.train.images[(digits.train.labels == 0).nonzero()[0, 0]]
    assert torch.equal(shown["samples"][0], first_zero)
    assert shown["augmented"].shape == shown["samples"].shape
    assert not torch.equal(shown["augmented"], shown["samples"])


def test_the_worst_mistakes_come_first(shown: dict[str, Tensor], digits: "Dataset") -> None:
    # The network always says 9; what it finds least likely, it gets most wrong: the zeros.
    labels, shares = shown["wrong_labels"], shown["wrong_shares"]
    assert len(labels) == WORST
    assert (labels == 0).all()
    assert torch.allclose(shares.sum(1), torch.ones(WORST))
    assert (shares.argmax(1) == 9).all()


def test_the_most_frequent_pairs_have_examples(digits: "Dataset") -> None:
    class Confused(Oracle):
        """Predicts 1 for every 8, and 5 for the first two 3s."""

        def predict(self, labels: Tensor, index: Tensor) -> Tensor:
            first = (digits.test.labels == 3).nonzero()[:2, 0]
            predicted = torch.where(labels == 8, 1, labels)
            return torch.where(torch.isin(index, first), 5, predicted)

    shown = collect_diagnostics(Confused(digits), digits, Augment(), seed=0)
    labels, predicted = shown["pairs_labels"].tolist(), shown["pairs_predicted"].tolist()
    assert list(zip(labels, predicted, strict=True)) == [(8, 1)] * EXAMPLES + [(3, 5)] * 2
    threes = digits.test.images[digits.test.labels == 3]
    assert torch.equal(shown["pairs"][-2:], threes[:2])


def test_a_network_without_mistakes_or_convolutions_shows_none(digits: "Dataset") -> None:
    shown = collect_diagnostics(Oracle(digits), digits, Augment(), seed=0)
    assert len(shown["wrong"]) == len(shown["pairs"]) == len(shown["pairs_labels"]) == 0
    assert "maps" not in shown
    assert torch.equal(shown["augmented"], shown["samples"])


def test_feature_maps_are_those_of_the_first_convolution(
    shown: dict[str, Tensor], digits: "Dataset"
) -> None:
    torch.manual_seed(0)
    network = Biased(10)
    image = normalize(shown["samples"][:1], digits.mean, digits.std)
    expected = network.conv(image)[0, :MAPS]
    assert torch.allclose(shown["maps"].float(), expected, atol=1e-2)
