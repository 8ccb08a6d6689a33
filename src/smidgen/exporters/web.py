"""A trained network as one web page that runs it: HTML, JavaScript, weights and test images."""

import base64
import json
import math
import zlib
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from smidgen._storage.files import write_atomic
from smidgen.data import Dataset
from smidgen.data.named.catalog import CATALOG
from smidgen.exporters.graph import Addition, Convolution, Graph, Layer, Pool
from smidgen.exporters.job import ExportJob
from smidgen.exporters.page_run import run_page
from smidgen.exporters.quantization import GraphNetwork
from smidgen.exporters.rejection import Rejection, fit_rejection
from smidgen.formatting import percent
from smidgen.record import Comparison, RunRecord

WEB_FILE = "network.html"
TOLERANCE = 1e-3
"""Of the scores."""
NUM_COMPARED = 1000
"""Of the test images."""
_NUM_SAMPLES = 20  # the first test images
_NUM_MISTAKES = 12  # the first ones among the others
_SAMPLE_BYTES = 24_000  # of all of them, compressed
_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("smidgen.exporters"),
    undefined=jinja2.StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def export_web(job: ExportJob, folder: Path) -> Comparison:
    """Write a page that runs the network in any browser, from one file and without a connection.

    In headless Chromium, or in Node.js if there is none, the page classifies the first 1,000 test
    images: all predictions must be the network's, and all scores within 1e-3 of its. With neither,
    nothing is compared, and the comparison says so.

    Raises:
        ModelError: the network has a layer that cannot be exported.
        ExportError: the page's scores differ from the network's, or its scripts do not run.
    """
    network = GraphNetwork(job.graph)
    rejection = fit_rejection(network, job.dataset)
    page = web_page(network, rejection, job.record, job.dataset, job.scores.argmax(1))
    write_atomic(folder / WEB_FILE, page)
    answers = run_page(page, job.pixels[:NUM_COMPARED])
    if answers is None:
        return Comparison(
            reference="network",
            unit="score",
            num_images=0,
            num_correct=0,
            differing=(),
            largest_difference=0.0,
            tolerance=TOLERANCE,
            notes=("The page was not run: neither Chromium nor Node.js could open it.",),
        )
    scores = answers.scores
    if _are_log_probabilities(job.scores):  # the page computes the scores before them
        scores = scores - np.log(
            np.exp(scores - scores.max(1, keepdims=True)).sum(1, keepdims=True)
        )
        scores -= answers.scores.max(1, keepdims=True)
    notes = (
        f"{answers.runtime} takes {1000 * answers.seconds_per_image:.2f} ms for an image.",
        f'"Not sure" is the answer to {answers.rejected.sum():,} of these test images.',
    )
    return job.compare(scores, "network", tolerance=TOLERANCE, notes=notes)


def _are_log_probabilities(scores: NDArray[np.float32]) -> bool:
    return bool(np.allclose(np.exp(scores.astype(np.float64)).sum(1), 1, atol=1e-3))


def web_page(
    network: GraphNetwork,
    rejection: Rejection,
    record: RunRecord,
    data: Dataset,
    predicted: NDArray[np.intp],
) -> str:
    """The text of a page that runs `network`, which the run of `record` trained on `data`.

    `predicted` are the classes that it predicts for the test images.
    """
    entry, test = CATALOG.get(data.name), record.test
    facts = {
        "classes": data.classes,
        "input": _input(data),
        "peaks": _peaks(network, data),
        "samples": _samples(data, predicted),
        "network": network_facts(network.graph, rejection),
    }
    files = ("style.css", "engine.js", "image.js", "view.js", "app.js")
    return _TEMPLATES.get_template("web/page.html.jinja").render(
        name=record.experiment.name,
        draws=facts["input"] == "handwriting",
        summary=[
            f"{record.profile.num_params:,} parameters",
            f"{percent(test.score.accuracy)} of {test.num_images:,} test images right",
            f"trained on {entry.title}, {entry.about}" if entry else f"trained on {data.name}",
        ],
        facts=Markup(json.dumps(facts, separators=(",", ":")).replace("<", "\\u003c")),
        **{file.replace(".", "_"): Markup(_source(file)) for file in files},
    )


def _source(name: str) -> str:
    assert _TEMPLATES.loader is not None
    return _TEMPLATES.loader.get_source(_TEMPLATES, f"web/{name}")[0]


def _input(data: Dataset) -> str:
    """How images become what the network was trained on; as in smidgen.data.load_like."""
    entry = CATALOG.get(data.name)
    if entry is None or data.image_shape[0] != 1:
        return "plain"
    return "handwriting" if entry.handwriting else "bright"


def network_facts(graph: Graph, rejection: Rejection | None = None) -> dict[str, Any]:
    """The graph as JSON that engine.js reads, with float32 weights in base64."""
    numbers: list[NDArray[np.float64]] = []
    for layer in graph.layers:
        if isinstance(layer, Convolution):
            numbers += [layer.weight, layer.bias]
            numbers += [layer.scale, layer.shift] if layer.has_affine else []
    return {
        "shape": graph.input_shape,
        "mean": graph.mean,
        "layers": [_layer_facts(layer) for layer in graph.layers],
        "weights": _base64(np.concatenate([n.ravel() for n in numbers]).astype("<f4").tobytes()),
        "rejection": rejection and _rejection_facts(rejection),
    }


def _layer_facts(layer: Layer) -> dict[str, Any]:
    low, high = (bound if math.isfinite(bound) else None for bound in layer.bounds)
    facts: dict[str, Any] = {
        "name": layer.name,
        "inputs": layer.inputs,
        "shape": layer.shape,
        "low": low,
        "high": high,
    }
    if isinstance(layer, Addition):
        return facts | {"kind": "addition"}
    assert isinstance(layer, Convolution | Pool)
    facts |= {"kernel": layer.kernel, "stride": layer.stride, "padding": layer.padding}
    if isinstance(layer, Pool):
        return facts | {"kind": layer.kind, "dilation": (1, 1)}
    return facts | {
        "kind": "convolution",
        "dilation": layer.dilation,
        "groups": layer.groups,
        "affine": layer.has_affine,
    }


def _rejection_facts(rejection: Rejection) -> dict[str, Any]:
    rows, columns = np.tril_indices(len(rejection.whitening))
    return {
        "places": rejection.places,
        "minProbability": rejection.min_probability,
        "maxDistance": rejection.max_distance,
        "spreads": _float16s(rejection.spreads),
        "means": _float16s(rejection.means),
        "whitening": _float16s(rejection.whitening[rows, columns]),
    }


def _peaks(network: GraphNetwork, data: Dataset) -> list[float]:
    """The magnitude of each layer's output that shows in full color: few are larger."""
    computed = network.outputs(network.centered(data.test.images[:100]))
    return [round(float(np.quantile(np.abs(o.detach().numpy()), 0.995)), 4) or 1 for o in computed]


def _samples(data: Dataset, predicted: NDArray[np.intp]) -> dict[str, Any]:
    """Test images: the first ones, and the first of the others that the network gets wrong."""
    labels = data.test.labels.numpy()
    wrong = [int(n) for n in np.flatnonzero(labels != predicted) if n >= _NUM_SAMPLES]
    numbers = [*range(min(_NUM_SAMPLES, len(labels))), *wrong[:_NUM_MISTAKES]]
    while True:
        packed = zlib.compress(data.test.images[numbers].numpy().tobytes(), 9)
        if len(packed) <= _SAMPLE_BYTES or len(numbers) == 1:
            break
        numbers = numbers[
            : max(1, min(len(numbers) - 1, len(numbers) * _SAMPLE_BYTES // len(packed)))
        ]
    return {
        "numbers": numbers,
        "labels": labels[numbers].tolist(),
        "pixels": _base64(packed),
    }


def _float16s(values: NDArray[np.float64]) -> str:
    return _base64(values.astype("<f2").tobytes())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
