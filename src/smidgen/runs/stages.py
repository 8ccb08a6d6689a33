"""Steps of a run that others take, too."""

from torch import nn

from smidgen.config import Experiment
from smidgen.data import Dataset, Split
from smidgen.data import describe as describe_data
from smidgen.evaluate import evaluate
from smidgen.models import build
from smidgen.profiling import check_output, profile
from smidgen.record import DataRecord, Evaluation, Profile


def prepare(experiment: Experiment) -> tuple[nn.Module, Profile]:
    """The network of `experiment`, with weights from torch's generator, and its profile.

    Raises:
        ConfigError, ModelError: it cannot be built, or does not give (batch, classes).
    """
    facts = describe_data(experiment.data)
    network = build(experiment.model, facts.image_shape, facts.num_classes)
    found = profile(network, facts.image_shape)
    check_output(found, facts.num_classes)
    return network, found


def score(network: nn.Module, data: Dataset, part: Split) -> Evaluation:
    """The score of `network` on one part of `data`."""
    return evaluate(network, part, data.mean, data.std, len(data.classes))


def data_record(dataset: Dataset) -> DataRecord:
    """What a record says of `dataset`."""
    return DataRecord(
        name=dataset.name,
        source=dataset.source,
        sha256=dataset.sha256,
        num_train=len(dataset.train.labels),
        num_validation=len(dataset.validation.labels) if dataset.validation else 0,
        num_test=len(dataset.test.labels),
        image_shape=dataset.image_shape,
        mean=dataset.mean,
        std=dataset.std,
        classes=dataset.classes,
        notes=dataset.notes,
    )
