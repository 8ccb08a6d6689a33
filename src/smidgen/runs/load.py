"""The trained network of a run, from its folder."""

from pathlib import Path

from torch import nn

from smidgen._storage.tensors import read_tensors
from smidgen.config import Experiment, is_file
from smidgen.data import MAX_PIXELS, DatasetInfo
from smidgen.data import describe as describe_data
from smidgen.errors import RecordError
from smidgen.models import build
from smidgen.record import RECORD, WEIGHTS, RunRecord


def restore(folder: Path, record: RunRecord, other: bool = False) -> nn.Module:
    """The trained network of the run in `folder`, in eval mode on the CPU.

    Raises:
        RecordError: the weights are missing, damaged or not those of the record (unless `other`
            weights are to be taken), the record's images and classes are not those of its data
            set, or no data set can have them; it names a module outside of the run's folder.
    """
    require_own_module(record.experiment, folder)
    facts = DatasetInfo(record.data.image_shape, len(record.data.classes))
    data = record.experiment.data
    if data.path is None and facts != (known := describe_data(data)):
        raise RecordError(
            f"{folder / RECORD} is damaged: it says images of {facts.image_shape} in "
            f"{facts.num_classes} classes; {data.name} has images of {known.image_shape} in "
            f"{known.num_classes}."
        )
    channels, height, width = facts.image_shape
    if channels not in (1, 3) or min(height, width) < 1 or height * width > MAX_PIXELS:
        raise RecordError(
            f"{folder / RECORD} is damaged: it says images of {facts.image_shape} (channels, "
            f"height, width), which no data set has; at most {MAX_PIXELS:,} pixels are read."
        )
    network = build(record.experiment.model, facts.image_shape, facts.num_classes)
    path = folder / WEIGHTS
    weights = read_tensors(path, None if other else record.weights_sha256)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        lines = str(error).splitlines()  # a heading, then what does not fit
        what = lines[min(1, len(lines) - 1)].strip().rstrip(".")
        raise RecordError(f"{path} holds the weights of another network: {what}.") from None
    return network.eval()


def require_own_module(experiment: Experiment, folder: Path) -> None:
    """Nothing, where the module of the run in `folder`, if it is a file, is one that it keeps.

    Whoever names a run runs its module; what else is on the machine is not for a record to choose.

    Raises:
        RecordError: the file is not in the folder, or is a link that leaves it.
    """
    file = experiment.model.file
    if file is None:
        return
    kept = file == folder / file.name and is_file(file)
    if not kept or not file.resolve().is_relative_to(folder.resolve()):
        raise RecordError(
            f"{folder} names the module {file}, which is no file of its own: a run keeps its "
            "module's file in its folder. Bring the original back, or repeat the run."
        )
