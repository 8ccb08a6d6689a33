import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from smidgen.data import TestSplit
from smidgen.errors import ModelError
from smidgen.evaluate import evaluate

MEAN, STD = (0.25,), (0.5,)
LOGITS = [[2.0, 0.0, -1.0], [0.5, 0.5 + 1e-3, 0.0], [0.0, 0.0, 3.0], [1.0, 0.0, 0.0]]
LABELS = [0, 0, 2, 1]


def split() -> TestSplit:
    """Images whose single pixel is their number."""
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1)
    return TestSplit(images, torch.tensor(LABELS))


class Lookup(nn.Module):
    """LOGITS by an image's number; in training mode, other ones."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x: Tensor) -> Tensor:
        number = ((x * STD[0] + MEAN[0]) * 255).round().long().flatten()
        scores = self.logits[number]
        return -scores if self.training else scores


@pytest.mark.parametrize("batch_size", [1, 3, 4, 500])
def test_equals_a_computation_by_hand(batch_size: int) -> None:
    found = evaluate(Lookup(LOGITS), split(), MEAN, STD, 3, batch_size)
    logits = np.array(LOGITS)
    losses = np.log(np.exp(logits).sum(1)) - logits[range(4), LABELS]
    assert found.score.loss == pytest.approx(losses.mean(), rel=1e-6)
    assert (found.num_images, found.num_correct, found.score.accuracy) == (4, 2, 0.5)
    assert found.confusion == ((1, 1, 0), (1, 0, 0), (0, 0, 1))


def test_log_probabilities_score_as_logits_do() -> None:
    log_probabilities = torch.tensor(LOGITS).log_softmax(1).tolist()
    one = evaluate(Lookup(LOGITS), split(), MEAN, STD, 3)
    other = evaluate(Lookup(log_probabilities), split(), MEAN, STD, 3)
    assert other.score.loss == pytest.approx(one.score.loss, rel=1e-6)
    assert other.confusion == one.confusion


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(training: bool) -> None:
    network = Lookup(LOGITS).train(training)
    evaluate(network, split(), MEAN, STD, 3)
    assert network.training is training
    assert network.logits.grad is None


@pytest.mark.parametrize("useless", [math.nan, math.inf])
def test_nan_scores_are_an_error(useless: float) -> None:
    with pytest.raises(ModelError, match=r"loss on 4 images is nan, .* lower train.optim"):
        evaluate(Lookup([[useless] * 3] * 4), split(), MEAN, STD, 3)


class OnMps(Tensor):
    """A tensor that refuses float64 until it is on the CPU, as Apple's MPS does."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.double or any(a is torch.float64 for a in (*args, *kwargs.values())):
            raise TypeError("MPS has no float64")
        result = super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]
        return result.as_subclass(Tensor) if func is Tensor.cpu else result


def test_a_device_without_float64_can_be_evaluated_on() -> None:
    plain = split()
    there = TestSplit(plain.images.as_subclass(OnMps), plain.labels.as_subclass(OnMps))
    assert evaluate(Lookup(LOGITS), there, MEAN, STD, 3) == evaluate(
        Lookup(LOGITS), plain, MEAN, STD, 3
    )
