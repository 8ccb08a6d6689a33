"""From a trained network to its integer network: bits of the weights, calibration, fine-tuning.

Every choice is made on the validation split, never on the test split.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from smidgen.data import Dataset, Split, TrainLoader
from smidgen.errors import ConfigError, ExportError
from smidgen.exporters.conversion import to_integers
from smidgen.exporters.graph import Convolution, Graph
from smidgen.exporters.integer import IntegerNetwork
from smidgen.exporters.quantization import GraphNetwork, fine_tune, packed_bytes
from smidgen.record import BitsTrial, Quantization, RunRecord

Bits: TypeAlias = Literal["auto"] | Sequence[int]
"""Of a weight: 8, 4 or 2, for all layers or for each one; auto: chosen."""
TOLERANCE = 0.0005
"""Accuracy that the integer network may lose: 0.05 points."""
WIDTHS = (8, 4, 2)
_CALIBRATION_IMAGES, _CHOICE_IMAGES, _SEARCH_IMAGES = 500, 10_000, 2_000
_MAX_EPOCHS = 2  # of fine-tuning


@dataclass(kw_only=True, slots=True)
class Quantizer:
    """Makes the integer network of a run's graph, as it is asked to."""

    record: RunRecord
    dataset: Dataset
    bits: Bits = (8,)
    max_weight_bytes: int | None = None
    """With auto: the most accurate network that needs no more bytes, not the smallest one."""
    tolerance: float = TOLERANCE
    """Accuracy that may be lost."""
    on_message: Callable[[str], None] = lambda _: None
    """Called before each step that takes long."""
    result: Quantization | None = field(default=None, init=False)
    """What was chosen."""
    failure: str | None = field(default=None, init=False)
    """Why the integer network cannot be used."""

    def __call__(self, graph: Graph) -> IntegerNetwork:
        """The integer network.

        Raises:
            ConfigError: the bits do not fit the network, or nothing fits max_weight_bytes.
            ExportError: it loses too much accuracy, even after fine-tuning.
        """
        if self.failure is not None:
            raise ExportError(self.failure)
        trials = _Trials(graph, self.record, self.dataset, self.on_message)
        trials.required = trials.float_accuracy - self.tolerance - 1e-9
        if self.bits == "auto":
            found = self._search(trials)
        else:
            bits = require_bits(self.bits, trials.num_layers)
            self._require_size(packed_bytes(graph, bits), f"with {_listed(bits)} bits")
            found = trials.add(bits, epochs=(1, _MAX_EPOCHS) if min(bits) == 8 else (_MAX_EPOCHS,))
        self.result = trials.result(found)
        if not trials.holds(found):
            loss = 100 * (self.result.float_accuracy - self.result.accuracy)
            self.failure = (
                f"with weights of {_listed(found.bits)} bits, the integer network loses "
                f"{loss:.2f} points of accuracy on the {trials.split} images, also after "
                f"fine-tuning ({100 * self.tolerance:g} are allowed)"
            )
            raise ExportError(self.failure)
        return to_integers(trials.networks[found.bits])

    def _search(self, trials: "_Trials") -> BitsTrial:
        """The choice of bits that fits the limit, or the smallest one that holds the accuracy."""
        path = trials.path()
        if self.max_weight_bytes is not None:
            self._require_size(
                packed_bytes(trials.graph, path[-1]), f"with {_listed(path[-1])} bits"
            )
            bits = next(b for b in path if packed_bytes(trials.graph, b) <= self.max_weight_bytes)
            for other in path:
                trials.add(other)
            return trials.add(bits, epochs=(_MAX_EPOCHS,))
        for bits in path:
            trials.add(bits)
        good, bad = 0, len(path)  # accuracy falls along the path
        while bad - good > 1:
            middle = (good + bad) // 2
            if trials.holds(trials.add(path[middle], epochs=(_MAX_EPOCHS,))):
                good = middle
            else:
                bad = middle
        return trials.add(path[good], epochs=(_MAX_EPOCHS,))

    def _require_size(self, num_bytes: int, which: str) -> None:
        if self.max_weight_bytes is not None and num_bytes > self.max_weight_bytes:
            raise ConfigError(
                f"the weights take {num_bytes:,} bytes {which}; at most "
                f"{self.max_weight_bytes:,} are allowed."
            )


def require_bits(bits: Sequence[int], num_layers: int) -> tuple[int, ...]:
    """The bits of each of the layers, of which `bits` may name all or one for all.

    Raises:
        ConfigError: another number of layers, or of bits.
    """
    given = tuple(bits) * (num_layers if len(bits) == 1 else 1)
    if len(given) != num_layers or not set(given) <= set(WIDTHS):
        raise ConfigError(
            f"bits are {_listed(bits)}; they must be 8, 4 or 2, one for all layers or "
            f"{num_layers}, one for each convolution and linear layer."
        )
    return given


class _Trials:
    """Integer networks with different bits, and their accuracy on the validation split."""

    def __init__(
        self,
        graph: Graph,
        record: RunRecord,
        dataset: Dataset,
        on_message: Callable[[str], None],
    ) -> None:
        self.graph, self.record, self.on_message = graph, record, on_message
        self.num_layers = sum(isinstance(layer, Convolution) for layer in graph.layers)
        self.split: Literal["validation", "train"] = "validation" if dataset.validation else "train"
        chosen: Split = dataset.validation or dataset.train
        self.images, self.labels = chosen.images[:_CHOICE_IMAGES], chosen.labels[:_CHOICE_IMAGES]
        self.calibration = dataset.train.images[:_CALIBRATION_IMAGES]
        self.loader = TrainLoader(
            split=dataset.train,
            batch_size=record.experiment.train.batch_size,
            augment=record.experiment.data.augment,
            mean=graph.mean,
            std=(1.0,) * len(graph.mean),
            seed=record.seed,
        )
        self.float_accuracy = self._accuracy(GraphNetwork(graph))
        self.required = 0.0
        """The accuracy that a network must have to hold."""
        self.networks: dict[tuple[int, ...], GraphNetwork] = {}
        self.found: dict[tuple[int, ...], BitsTrial] = {}
        self.epochs: dict[tuple[int, ...], int] = {}
        """Of fine-tuning."""

    def add(self, bits: tuple[int, ...], epochs: Sequence[int] = ()) -> BitsTrial:
        """Try a choice of bits; fine-tune with as many of the `epochs` as it takes to hold."""
        if bits not in self.found:
            network = self._calibrated(bits)
            self.networks[bits], self.epochs[bits] = network, 0
            self._note(bits, self._accuracy(network), None)
        for number in epochs:
            if self.holds(self.found[bits]) or number <= self.epochs[bits]:
                continue
            network = self._calibrated(bits)
            self._fine_tune(network, number)
            self.networks[bits], self.epochs[bits] = network, number
            self._note(bits, self.found[bits].accuracy, self._accuracy(network))
        return self.found[bits]

    def _note(self, bits: tuple[int, ...], accuracy: float, fine_tuned: float | None) -> None:
        self.found[bits] = BitsTrial(
            bits=bits,
            weight_bytes=packed_bytes(self.graph, bits),
            accuracy=accuracy,
            fine_tuned_accuracy=fine_tuned,
        )

    def holds(self, trial: BitsTrial) -> bool:
        """Whether the network is accurate enough."""
        return final_accuracy(trial) >= self.required

    def result(self, chosen: BitsTrial) -> Quantization:
        """The record of all trials, of which one is chosen."""
        epochs, before = self.epochs[chosen.bits], self.record.num_epochs
        return Quantization(
            bits=chosen.bits,
            weight_bytes=chosen.weight_bytes,
            split=self.split,
            float_accuracy=self.float_accuracy,
            accuracy=final_accuracy(chosen),
            fine_tune_epochs=epochs,
            num_epochs=None if before is None else before + epochs,
            max_epochs=self.record.experiment.budget.max_epochs,
            trials=tuple(sorted(self.found.values(), key=lambda trial: -trial.weight_bytes)),
        )

    def path(self) -> list[tuple[int, ...]]:
        """Choices from 8 bits everywhere to as few as possible, each smaller than the one before.

        Each step lowers the bits of the layer for which the loss rises least for each byte that is
        saved. By how much is measured with all other layers at 8 bits.
        """
        self.on_message(f"measuring {self.num_layers} layers with fewer bits")
        bits = [8] * self.num_layers
        losses = {(place, 8): self._loss(bits) for place in range(self.num_layers)}
        for place in range(self.num_layers):
            for width in WIDTHS[1:]:
                bits[place] = width
                losses[place, width] = self._loss(bits)
            bits[place] = 8
        path = [tuple(bits)]
        while True:
            rises: dict[int, float] = {}
            for place in (n for n, width in enumerate(bits) if width > 2):
                lower = [*bits[:place], bits[place] // 2, *bits[place + 1 :]]
                saved = packed_bytes(self.graph, bits) - packed_bytes(self.graph, lower)
                if saved > 0:  # short runs of weights are not packed
                    rise = losses[place, lower[place]] - losses[place, bits[place]]
                    rises[place] = rise / saved
            if not rises:
                return path
            bits[min(rises, key=lambda place: rises[place])] //= 2
            path.append(tuple(bits))

    def _calibrated(self, bits: Sequence[int]) -> GraphNetwork:
        network = GraphNetwork(self.graph, bits)
        network.calibrate(network.centered(self.calibration))
        return network

    def _accuracy(self, network: GraphNetwork) -> float:
        correct = (_scores(network, self.images).argmax(1) == self.labels).sum()
        return int(correct) / len(self.labels)

    def _loss(self, bits: Sequence[int]) -> float:
        scores = _scores(self._calibrated(bits), self.images[:_SEARCH_IMAGES])
        return float(F.cross_entropy(scores, self.labels[:_SEARCH_IMAGES]))

    def _fine_tune(self, network: GraphNetwork, epochs: int) -> None:
        self.on_message(
            f"fine-tuning with {_listed(sorted(set(network.bits.values())))} bits: {epochs} "
            f"epoch{'s' if epochs > 1 else ''}"
        )
        first = 1 + len(self.record.epochs)
        batches = chain.from_iterable(map(self.loader.epoch, range(first, first + epochs)))
        fine_tune(network, batches, epochs * len(self.loader))


@torch.no_grad()
def _scores(network: GraphNetwork, pixels: Tensor) -> Tensor:
    batches = torch.tensor_split(pixels, max(1, len(pixels) // 500))
    return torch.cat([network(network.centered(batch)) for batch in batches])


def final_accuracy(trial: BitsTrial) -> float:
    """After fine-tuning, if there was any."""
    fine_tuned = trial.fine_tuned_accuracy
    return trial.accuracy if fine_tuned is None else fine_tuned


def _listed(bits: Sequence[int]) -> str:
    return ", ".join(map(str, bits))
