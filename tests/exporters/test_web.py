"""The web page runs the network, prepares images as smidgen does, and knows when it is not sure."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_networks import MEAN, NETWORKS, SHAPE, STD, trained
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import nn

import smidgen
from smidgen.config import Data
from smidgen.data import Dataset
from smidgen.data.handwriting import load_like
from smidgen.data.images import load_image
from smidgen.exporters import onnx, page_run, web
from smidgen.exporters.quantization import GraphNetwork
from smidgen.exporters.rejection import fit_rejection, outputs
from smidgen.exporters.tracing import graph_of
from smidgen.record import Comparison
from smidgen.runs.load import load_network

TEMPLATES = Path(web.__file__).parent / "templates" / "web"


@pytest.fixture(scope="module")
def node() -> str:
    """Node.js, or the test is skipped."""
    program = shutil.which("node") or shutil.which("nodejs")
    if program is None:
        pytest.skip("Node.js is not installed")
    return program


@pytest.fixture(scope="module")
def browser() -> str:
    """A browser of Chromium's family, or the test is skipped."""
    found = next(filter(None, map(shutil.which, page_run.BROWSERS)), None)
    if found is None:
        pytest.skip("Chromium is not installed")
    return found


@pytest.fixture(scope="module")
def page(finished_folder: Path, digits: Dataset, record: smidgen.RunRecord) -> str:
    """The page of the finished run."""
    network = graph_network(finished_folder)
    scores, _ = outputs(network, digits.test.images, ())
    rejection = fit_rejection(network, digits)
    return web.web_page(network, rejection, record, digits, scores.argmax(1))


def graph_network(folder: Path) -> GraphNetwork:
    """The network of a run as a graph."""
    run = load_network(folder)
    return GraphNetwork(graph_of(run.network, run.image_shape, run.mean, run.std))


def export_page(run: Path) -> tuple[Comparison | None, str]:
    """How the exported page compares, or None and why it was not exported."""
    result = smidgen.export(run, ["html"])
    if not result.passed:
        return None, result.failures[0]
    return result.artifacts[0].comparison, str(result)


def run_javascript(node: str, file: str, code: str) -> object:
    """What `code` evaluates to after the scripts of a template."""
    source = (TEMPLATES / file).read_text() + f"\nconsole.log(JSON.stringify({code}))"
    command = [node, "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.usefixtures("node")
def test_the_engine_computes_what_the_graph_does(
    make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = GraphNetwork(graph_of(trained(make()), SHAPE, MEAN, STD))
    pixels = torch.randint(0, 256, (20, *SHAPE), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(network.centered(pixels)).numpy()
    facts = json.dumps({"network": web.network_facts(network.graph)})
    engine = (TEMPLATES / "engine.js").read_text()
    monkeypatch.setattr(page_run, "BROWSERS", ())
    answers = page_run.run_page(
        f'<script id="facts">{facts}</script><script id="engine">{engine}</script>',
        pixels.numpy().astype(np.uint8),
    )
    assert answers is not None
    np.testing.assert_allclose(answers.scores, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("browser")
def test_an_exported_page_answers_as_the_network_does(run_copy: Path) -> None:
    found, summary = export_page(run_copy)
    assert found is not None
    assert (found.num_images, found.differing) == (360, ())
    assert found.largest_difference < 1e-4
    assert '"Not sure" is the answer to' in summary


@pytest.mark.usefixtures("node")
def test_a_page_that_answers_otherwise_is_not_exported(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = web._source
    monkeypatch.setattr(page_run, "BROWSERS", ())
    monkeypatch.setattr(
        web, "_source", lambda file: source(file).replace("let sum = bias[c]", "let sum = 0")
    )
    found, failure = export_page(run_copy)
    assert found is None
    assert re.search("predictions differ from those of the network", failure)
    monkeypatch.setattr(web, "_source", lambda file: "syntax error" + source(file))
    found, failure = export_page(run_copy)
    assert "cannot run the page" in failure
    assert not (run_copy / web.WEB_FILE).exists()


def test_a_page_that_nothing_could_run_says_so(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_run, "BROWSERS", ())
    monkeypatch.setattr(page_run, "NODE", ())
    found, summary = export_page(run_copy)
    assert found is not None
    assert found.num_images == 0
    assert "was not run" in summary
    assert (run_copy / web.WEB_FILE).exists()


@pytest.mark.usefixtures("node")
def test_node_runs_a_page_that_the_browser_cannot_open(
    page: str, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = digits.test.images[:2].numpy()
    for program in ("false", "true"):  # one fails, one prints no page
        monkeypatch.setattr(page_run, "BROWSERS", (program,))
        answers = page_run.run_page(page, pixels)
        assert answers is not None
        assert answers.runtime in page_run.NODE


def test_a_page_is_one_file_that_needs_no_network(page: str) -> None:
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|@import|\bfetch\(|XMLHttpRequest|<link (?!rel=.icon)", page)
    assert not re.search(r'\bsrc="', page)


def test_names_cannot_become_code(
    finished_folder: Path, digits: Dataset, record: smidgen.RunRecord
) -> None:
    network = graph_network(finished_folder)
    name = '</script><script>alert(1)</script>"'
    data = replace(digits, classes=(name, *digits.classes[1:]))
    record = replace(record, experiment=replace(record.experiment, name="R&amp;D"))
    predicted = np.zeros(len(data.test), np.intp)
    text = web.web_page(network, fit_rejection(network, data), record, data, predicted)
    assert "alert(1)</script>" not in text
    assert "<h1>R&amp;amp;D</h1>" in text
    (facts,) = re.findall(r'<script id="facts"[^>]*>(.*?)</script>', text)
    assert json.loads(facts)["classes"][0] == name


def drawn(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A photo of a few strokes on paper that is lit unevenly."""
    image = Image.new("L", size, 235)
    draw = ImageDraw.Draw(image)
    points = [(int(rng.integers(size[0])), int(rng.integers(size[1]))) for _ in range(5)]
    draw.line(points, fill=40, width=max(2, min(size) // 14), joint="curve")
    shade = np.linspace(0, 30, size[0])[None, :] + rng.normal(0, 2, (size[1], size[0]))
    return np.clip(np.asarray(image) - shade, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(280, 280), (90, 150), (31, 20), (28, 28), (12, 9)])
def test_handwriting_is_centered_as_smidgen_does(
    node: str, tmp_path: Path, size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(sum(size))
    for turn in range(5):
        gray = drawn(rng, size) if turn else np.full(size[::-1], 255, np.uint8)
        path = tmp_path / "drawing.png"
        Image.fromarray(gray).save(path)
        expected = load_like(Data(name="mnist"), (1, 28, 28), path)[0]
        given = {"data": rgba(gray), "width": size[0], "height": size[1]}
        code = f'[...prepareImage({json.dumps(given)}, [1, 28, 28], "handwriting")]'
        found = np.array(run_javascript(node, "image.js", code)).reshape(28, 28)
        assert np.abs(found - expected.astype(int)).max() <= 1


@pytest.mark.parametrize(("shape", "input"), [((3, 32, 32), "plain"), ((1, 28, 28), "bright")])
def test_other_images_are_resized_as_smidgen_does(
    node: str, tmp_path: Path, shape: tuple[int, int, int], input: str
) -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(128, 256, (9, 13, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((130, 90), Image.Resampling.BICUBIC)
    path = tmp_path / "image.png"
    image.save(path)
    expected = (
        load_image(path, shape)
        if input == "plain"
        else load_like(Data(name="fashion-mnist"), shape, path)
    )
    given = {"data": rgba(np.asarray(image)), "width": 130, "height": 90}
    code = f"[...prepareImage({json.dumps(given)}, {list(shape)}, {input!r})]"
    found = np.array(run_javascript(node, "image.js", code)).reshape(shape)
    np.testing.assert_array_equal(found, expected)


def rgba(image: NDArray[np.uint8]) -> list[int]:
    """Gray or RGB pixels as a canvas gives them."""
    color = image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
    flat: list[int] = np.concatenate([color, np.full_like(color[..., :1], 255)], 2).ravel().tolist()
    return flat


@pytest.mark.usefixtures("node")
def test_the_page_rejects_the_images_that_the_rule_does(
    page: str, finished_folder: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_run, "BROWSERS", ())
    network = graph_network(finished_folder)
    rule = fit_rejection(network, digits)
    noise = torch.randint(0, 256, (100, 1, 28, 28), dtype=torch.uint8)
    images = torch.cat([digits.test.images[:100], noise])
    expected = rule.rejects(*outputs(network, images, rule.places))
    answers = page_run.run_page(page, images.numpy())
    assert answers is not None
    assert (answers.rejected == expected).mean() > 0.99  # scores differ by rounding
    assert expected[:100].mean() < 0.1
    assert expected[100:].all()


def test_the_rule_keeps_validation_images(finished_folder: Path, digits: Dataset) -> None:
    network = graph_network(finished_folder)
    rule = fit_rejection(network, digits)
    assert digits.validation is not None
    rejected = rule.rejects(*outputs(network, digits.validation.images, rule.places))
    assert 0 < rejected.mean() <= 0.015
    without = fit_rejection(network, replace(digits, validation=None))
    rejected = without.rejects(*outputs(network, digits.train.images, without.places))
    assert 0 < rejected.mean() <= 0.015


DRAW = """
const pad = document.getElementById("pad"), frame = pad.getBoundingClientRect();
const send = (type, [x, y], target = window) => {
  const [clientX, clientY] = [frame.left + x * frame.width, frame.top + y * frame.height];
  target.dispatchEvent(new PointerEvent(type, { bubbles: true, pointerId: 1, clientX, clientY }));
};
const stroke = (points) => {
  send("pointerdown", points[0], pad);
  points.forEach((point) => send("pointermove", point));
  send("pointerup", points[0]);
};
const press = (key, target) =>
  target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const answer = () => { refresh(); return document.getElementById("best").textContent; };
"""


def test_drawing_changes_the_answer(page: str, browser: str) -> None:
    script = """
      const found = [answer()];
      stroke([[0.5, 0.2], [0.5, 0.8]]);
      const image = currentImage();
      found.push(image.reduce((a, b) => a + b) > 0, strokes.length);
      found.push(Math.max(...image.keys().filter((i) => image[i]).map((i) => Math.floor(i / 28))));
      stroke([[0.2, 0.5], [0.8, 0.5]]);
      document.getElementById("undo").click();
      found.push(strokes.length);
      press("Escape", document.body);
      found.push(answer());
      press("ArrowRight", pad); press(" ", pad); press("ArrowDown", pad);
      found.push(strokes.length, strokes[0].length);
      show(JSON.stringify(found));
    """
    found = json.loads(page_run.run_script(browser, page, DRAW + script) or "")
    assert found == ["Not sure", True, 1, 23, 1, "Not sure", 1, 2]


def test_pointing_at_a_unit_shows_what_it_sees(page: str, browser: str) -> None:
    script = """
      const { canvas, side } = views[1], { left, top } = canvas.getBoundingClientRect();
      const [clientX, clientY] = [left + side / 2, top + side / 2];
      canvas.dispatchEvent(new PointerEvent("pointermove", { clientX, clientY }));
      refresh();
      press("ArrowRight", canvas);
      const { row, column } = unit;
      show(JSON.stringify([document.getElementById("readout").textContent, row, column,
        network.receptiveField(1, row, column).get(PIXELS)]));
    """
    text, row, column, box = json.loads(page_run.run_script(browser, page, DRAW + script) or "")
    assert "It sees 7 × 7 pixels of the image" in text
    assert box == [row * 4, column * 4, row * 4 + 6, column * 4 + 6]


@pytest.mark.slow
@pytest.mark.usefixtures("browser")
@pytest.mark.parametrize(
    "name", ["quickstart", "flatten-18k", "gap-11k", "gap-6k", "linear-19k", "squeeze-7k"]
)
def test_pages_of_trained_networks_answer_as_onnxruntime_does(
    name: str, mnist_folder: Path, tmp_path: Path
) -> None:
    run = Path(__file__).parents[2] / "records" / name / "seed-0"
    result = smidgen.export(run, ["onnx", "html"], tmp_path, data_dir=mnist_folder)
    assert result.passed
    pixels = smidgen.load("mnist", data_dir=mnist_folder).test.images[:1000].numpy()
    expected = torch.from_numpy(onnx.run(tmp_path / onnx.FLOAT_FILE, pixels))
    text = (tmp_path / web.WEB_FILE).read_text(encoding="utf-8")
    answers = page_run.run_page(text, pixels)
    assert answers is not None
    scores = torch.from_numpy(answers.scores)
    assert bool((scores.argmax(1) == expected.argmax(1)).all())
    # without what log-probabilities lack, which two of the networks return
    difference = scores.log_softmax(1) - expected.double().log_softmax(1)
    assert float(difference.abs().max()) < 1e-4
    assert len(text.encode()) < 200_000
    assert answers.rejected.mean() < 0.02
