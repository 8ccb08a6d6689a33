"""When a network's answer is "not sure": thresholds on its probability and on a distance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smidgen.data import Dataset
from smidgen.exporters.graph import Convolution, Floats
from smidgen.exporters.quantization import GraphNetwork

_ACCEPTED = 0.995  # of the validation images, by each threshold
_MOST_IMAGES = 10_000  # of a split
_MOST_FEATURES = 160  # 160 * 161 / 2 numbers in the page
_RIDGE = 1e-4  # of the features' mean variance, added to it

Numbers = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rejection:
    """A rule that rejects images on which a network's answer should not count.

    An image is rejected if the highest probability is below `min_probability`, or if what the
    network computes is too unlike what it computed for the training images of the class that it
    predicts. For this, the outputs of the convolutions in `places` are averaged over each channel,
    and the squared Mahalanobis distance to the class's mean, with one covariance for all classes,
    may not exceed `max_distance`. (Lee et al.: A Simple Unified Framework for Detecting
    Out-of-Distribution Samples and Adversarial Attacks, 2018.)
    """

    places: tuple[int, ...]
    """Of the graph's layers, from first to last."""
    min_probability: float
    max_distance: float
    spreads: Floats
    """(features,): standard deviations, by which the channels' means are divided."""
    means: Floats
    """(classes, features), after the division."""
    whitening: Floats
    """(features, features), lower triangular: the squared length of its product with the difference
    to the class's mean is the distance."""

    def rejects(self, scores: Numbers, features: Numbers) -> NDArray[np.bool_]:
        """Which images are rejected, of `scores` (images, classes) and the means by channel."""
        distances = self.distances(features, scores.argmax(1))
        rejected: NDArray[np.bool_] = (distances > self.max_distance) | (
            highest_probabilities(scores) < self.min_probability
        )
        return rejected

    def distances(self, features: Numbers, labels: NDArray[np.intp]) -> Floats:
        """Squared Mahalanobis distance of each image to the mean of its class in `labels`."""
        errors = features / self.spreads - self.means[labels]
        distances: Floats = np.square(errors @ self.whitening.T).sum(1)
        return distances


def fit_rejection(network: GraphNetwork, data: Dataset) -> Rejection:
    """The rule whose thresholds each keep 99.5 % of the validation images.

    Means and covariance are those of the first 10,000 training images. Without a validation split,
    the thresholds are from these as well, and keep fewer new images.
    """
    places = _places(network)
    scores, features = outputs(network, data.train.images[:_MOST_IMAGES], places)
    labels = data.train.labels[: len(scores)].numpy()
    spread = features.std(0)
    # as the web page holds them, in float16: the thresholds are those of the same numbers
    spreads = _to_float16(np.maximum(spread, 1e-3 * spread.max(initial=1e-3)))
    scaled = features / spreads
    center = scaled.mean(0)
    means = _to_float16(
        np.stack(
            [
                scaled[labels == label].mean(0) if (labels == label).any() else center
                for label in range(len(data.classes))
            ]
        )
    )
    errors = scaled - means[labels]
    covariance = errors.T @ errors / len(errors)
    covariance += _RIDGE * np.eye(len(covariance)) * max(covariance.trace(), 1e-6)
    whitening = _to_float16(np.linalg.inv(np.linalg.cholesky(covariance)))
    if data.validation is not None:
        scores, features = outputs(network, data.validation.images[:_MOST_IMAGES], places)
    rule = Rejection(
        places=places,
        min_probability=float(np.quantile(highest_probabilities(scores), 1 - _ACCEPTED)),
        max_distance=0.0,
        spreads=spreads,
        means=means,
        whitening=whitening,
    )
    distances = rule.distances(features, scores.argmax(1))
    return replace(rule, max_distance=float(np.quantile(distances, _ACCEPTED)))


def _places(network: GraphNetwork) -> tuple[int, ...]:
    """The convolutions before the last layer, or the last of them if there are many channels."""
    chosen: list[int] = []
    features = 0
    for place in reversed(range(len(network.graph.layers) - 1)):
        layer = network.graph.layers[place]
        if isinstance(layer, Convolution) and features + layer.shape[0] <= _MOST_FEATURES:
            chosen.insert(0, place)
            features += layer.shape[0]
    return tuple(chosen)


@torch.no_grad()
def outputs(
    network: GraphNetwork, images: Tensor, places: Sequence[int], batch_size: int = 250
) -> tuple[Numbers, Numbers]:
    """Scores (images, classes), and (images, features) means by channel of the layers in `places`.

    `images` are raw, uint8 (images, channels, height, width).
    """
    scores: list[Tensor] = []
    features: list[Tensor] = []
    for batch in torch.split(images, batch_size):
        computed = network.outputs(network.centered(batch))
        scores.append(computed[-1].flatten(1))
        means = [computed[place].mean((2, 3)) for place in places]
        features.append(torch.cat(means, 1) if means else torch.zeros(len(batch), 0))
    return torch.cat(scores).numpy(), torch.cat(features).numpy()


def highest_probabilities(scores: Numbers) -> Floats:
    """The probability of the predicted class of each image, from (images, classes)."""
    exponents = np.exp(scores - scores.max(1, keepdims=True), dtype=np.float64)
    highest: Floats = 1 / exponents.sum(1)
    return highest


def _to_float16(values: NDArray[np.floating]) -> Floats:
    return values.astype(np.float16).astype(np.float64)
