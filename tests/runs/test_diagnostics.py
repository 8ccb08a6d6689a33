from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from smidgen.config import Augment
from smidgen.data import normalize
from smidgen.runs.diagnostics import MAPS, SAMPLES, WORST, collect_diagnostics

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


def test_a_network_without_mistakes_or_convolutions_shows_none(digits: "Dataset") -> None:
    class Oracle(nn.Module):
        """Knows the test images by heart."""

        def forward(self, x: Tensor) -> Tensor:
            known = normalize(digits.test.images, digits.mean, digits.std).flatten(1)
            nearest = torch.cdist(x.flatten(1), known).argmin(1)
            return 20.0 * nn.functional.one_hot(digits.test.labels[nearest], 10).float()

    shown = collect_diagnostics(Oracle(), digits, Augment(), seed=0)
    assert len(shown["wrong"]) == 0
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
