"""The trained network of a finished run, ready to use."""

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from smidgen._storage.tensors import read_tensors
from smidgen.data import MAX_PIXELS, DatasetInfo, normalize, open_dataset
from smidgen.errors import RecordError
from smidgen.models import ModelInMemory, build
from smidgen.record import RECORD, WEIGHTS, DataRecord, RunRecord, read_record
from smidgen.runs.experiment_files import require_module_in_folder
from smidgen.seeds import preserved_generators


class TrainedNetwork(nn.Module):
    """A trained network together with what is needed to feed it.

    Takes raw pixels, from 0 to 255, normalizes them as in training and returns the network's
    scores.
    """

    network: nn.Module
    """The network itself, in eval mode; it takes normalized float32 images."""
    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    mean: tuple[float, ...]
    """By channel, of pixels in [0, 1]; subtracted first."""
    std: tuple[float, ...]
    """By channel; divided by afterwards."""
    classes: tuple[str, ...]
    """Class names, in the order of the scores."""

    def __init__(self, network: nn.Module, data: DataRecord) -> None:
        super().__init__()
        self.network = network
        self.image_shape, self.classes = data.image_shape, data.classes
        self.mean, self.std = data.mean, data.std
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits or log-probabilities (batch, classes) of images (batch, channels, height, width).

        Pixels are uint8 or float, from 0 to 255.
        """
        scores: Tensor = self.network(normalize(images, self.mean, self.std))
        return scores

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Class probabilities (batch, classes) of images as `forward` takes them."""
        shares: Tensor = self(images).softmax(1)
        return shares


def load_network(run: str | os.PathLike[str], model: ModelInMemory | None = None) -> TrainedNetwork:
    """The trained network of the finished run in the folder `run`, in eval mode on the CPU.

    Building it runs the code of the run's module, if it has one. A network that was passed to
    smidgen.train in Python must be passed again as `model`; its weights are the run's.

    Raises:
        RecordError: the run, its record or its weights are missing or damaged.
    """
    folder = Path(run)
    record = read_record(folder)
    return TrainedNetwork(restore(folder, record, model), record.data)


def restore(
    folder: Path,
    record: RunRecord,
    model: ModelInMemory | None = None,
    any_weights: bool = False,
) -> nn.Module:
    """The network that `record` describes with the weights in `folder`, in eval mode on the CPU.

    Raises:
        RecordError: the weights are missing, damaged or not those of the record (allowed with
            `any_weights`); the record's image shape or classes do not fit its data set; it names a
            module outside the run's folder.
    """
    require_module_in_folder(record.experiment, folder)
    info = DatasetInfo(record.data.image_shape, len(record.data.classes))
    _require_known_shape(record, info, folder / RECORD)
    with preserved_generators():
        network = build(record.experiment.model, info.image_shape, info.num_classes, model)
    path = folder / WEIGHTS
    load_weights(network, read_tensors(path, None if any_weights else record.weights_sha256), path)
    return network.eval()


def load_weights(network: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load `weights`, read from `path`, into `network`.

    Raises:
        RecordError: they are those of another network; names the first mismatch.
    """
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        lines = str(error).splitlines()  # a heading, then each mismatch
        reason = lines[min(1, len(lines) - 1)].strip().rstrip(".")
        raise RecordError(f"{path} holds the weights of another network: {reason}.") from None


def _require_known_shape(record: RunRecord, info: DatasetInfo, path: Path) -> None:
    data = record.experiment.data
    if data.name is not None and info != (known := open_dataset(data).info):
        raise RecordError(
            f"{path} is damaged: it says images of {info.image_shape} in {info.num_classes} "
            f"classes; {data.name} has images of {known.image_shape} in {known.num_classes}."
        )
    channels, height, width = info.image_shape
    if channels not in (1, 3) or min(height, width) < 1 or height * width > MAX_PIXELS:
        raise RecordError(
            f"{path} is damaged: it says images of {info.image_shape} (channels, height, width), "
            f"which no data set has; at most {MAX_PIXELS:,} pixels are read."
        )
