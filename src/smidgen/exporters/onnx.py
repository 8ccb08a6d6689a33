"""ONNX files: the network in floating point, and its integer network as QDQ."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from smidgen.errors import ConfigError, ModelError, install_extra
from smidgen.exporters.job import ExportJob
from smidgen.exporters.qdq import qdq_model
from smidgen.record import Comparison

FLOAT_FILE, INT8_FILE = "network.onnx", "network-int8.onnx"
PIXELS, SCORES = "pixels", "scores"
"""Names of the input and of the output."""
TOLERANCE = 1e-4
"""Of the scores of the network in floating point."""
STEP_TOLERANCE = 5
"""Of the scores of the integer network, in steps of an int8."""


def export_onnx(job: ExportJob, folder: Path) -> Comparison:
    """Write the network in floating point, by torch's exporter.

    All predictions must be the network's, and all scores within 1e-4 of its.

    Raises:
        ConfigError: onnx, onnxscript or onnxruntime is not installed.
        ModelError: torch's exporter cannot read the network.
        ExportError: the file's scores differ from the network's.
    """
    require_packages()
    path = folder / FLOAT_FILE
    save(_float_model(job), job, path)
    return job.compare(run(path, job.pixels), "network", tolerance=TOLERANCE)


def export_int8(job: ExportJob, folder: Path) -> Comparison:
    """Write the integer network with QuantizeLinear and DequantizeLinear operators (QDQ).

    Runtimes round in floating point, so a score may be a step or two from the integer network's.

    Raises:
        ConfigError: onnx or onnxruntime is not installed.
        ExportError: the integer network loses too much accuracy, or the file's scores differ from
            its scores.
    """
    require_packages()
    path = folder / INT8_FILE
    save(qdq_model(job.integers, PIXELS, SCORES), job, path)
    last = job.integers.layers[-1]
    steps = np.round(run(path, job.pixels) / last.scale) + last.zero_point
    # where two classes are this close in the integer network, the prediction may differ
    return job.compare(steps, "integers", tolerance=STEP_TOLERANCE, max_differing=len(steps))


def _float_model(job: ExportJob) -> Any:
    """The network as a ModelProto, without what torch notes about the code that it comes from."""
    images = torch.zeros(2, *job.record.data.image_shape, dtype=torch.uint8)
    try:
        with _quiet():
            program = torch.onnx.export(
                job.network,
                (images,),
                dynamo=True,
                input_names=[PIXELS],
                output_names=[SCORES],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except Exception as error:  # a user's forward may raise anything
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"torch.onnx cannot export the network: {first}") from None
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        value.ClearField("metadata_props")
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings and log messages of torch about torch."""
    logger = logging.getLogger("torch")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def require_packages() -> None:
    """Raise a ConfigError unless the packages of the extra `export` are installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"ONNX files need {error.name}, which is not installed: {install_extra('export')}."
        ) from None


def save(model: Any, job: ExportJob, path: Path) -> None:
    """Check a ModelProto and write it to one file, with metadata that tell how to use it."""
    import onnx

    data = job.record.data
    metadata = {
        "classes": json.dumps(data.classes, ensure_ascii=False),
        "preprocessing": "none: the input is raw pixels, uint8, (batch, channels, height, width); "
        f"the network subtracts {list(data.mean)} from pixels / 255 and divides by "
        f"{list(data.std)}, by channel",
        "run": job.title,
        "experiment": job.record.experiment.to_toml(),
        "license": job.license,
    }
    model.ClearField("metadata_props")
    onnx.helper.set_model_props(model, metadata)
    model.producer_name = "smidgen"
    model.producer_version = job.record.environment.smidgen
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def run(path: Path, pixels: NDArray[np.uint8], batch_size: int = 500) -> NDArray[Any]:
    """Scores (images, classes) that onnxruntime computes on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    batches = (pixels[n : n + batch_size] for n in range(0, len(pixels), batch_size))
    return np.concatenate([session.run([SCORES], {PIXELS: batch})[0] for batch in batches])
