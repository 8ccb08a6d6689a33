"""Thirteen architectures, as user modules, from profile to report."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import torchinfo
import zoo
from PIL import Image
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from zoo import LOG_PROBABILITIES, ZOO

from smidgen.config import Average, Data, Experiment, Model, Optimizer, Schedule, Train
from smidgen.data import normalize
from smidgen.profiling import profile
from smidgen.profiling.receptive_field.probe import probe
from smidgen.profiling.receptive_field.propagation import FieldPropagation
from smidgen.profiling.trace import Operator, trace
from smidgen.report import read_run, write_report
from smidgen.runs.check import check
from smidgen.runs.load import restore
from smidgen.runs.options import RunOptions
from smidgen.runs.predict import predict
from smidgen.runs.run import run

if TYPE_CHECKING:
    from smidgen.data import Dataset

IMAGE = (1, 28, 28)
NO_RULE = {"Upsampled", "Attention"}  # transposed convolution; a class token


def experiment(name: str, epochs: int = 1) -> Experiment:
    return Experiment(
        name=name,
        model=Model(module=f"{zoo.__file__}:{name}"),
        data=Data(name="digits"),
        train=Train(
            epochs=epochs,
            batch_size=64,
            optimizer=Optimizer(name="adamw", lr=0.01),
            schedule=Schedule(name="constant"),
            average=Average(name="ema", decay=0.9),
        ),
    )


@pytest.mark.parametrize("name", ZOO)
def test_parameters_and_macs_equal_other_counters(name: str) -> None:
    net = ZOO[name](10, 1).eval()
    made = profile(net, IMAGE)
    # torchinfo does not see the parameters of a network without submodules
    if name != "Functional":
        info = torchinfo.summary(net, input_size=(1, *IMAGE), verbose=0, device="cpu")
        assert made.num_params == info.total_params
    assert made.num_params == sum(p.numel() for p in net.parameters())
    assert made.num_params == sum(layer.params for layer in made.layers)
    counter = FlopCounterMode(display=False)
    torch.backends.mha.set_fastpath_enabled(False)  # the fast path hides operators from the counter
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            net(torch.rand(1, *IMAGE))
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    assert made.macs == sum(layer.macs for layer in made.layers)
    assert made.macs == counter.get_total_flops() / 2
    assert made.output_shape == (10,)
    text = str(made)
    assert f"{made.num_params:,}" in text
    assert f"{made.macs:,}" in text


@pytest.mark.parametrize("name", ZOO)
def test_receptive_fields_equal_the_probe(name: str) -> None:
    """The probe never finds more, and finds the same where the border does not clip it."""
    net = ZOO[name](10, 1).eval()
    found, made = probe(net, IMAGE), profile(net, IMAGE)
    compared = 0
    calls = [layer.path for layer in made.layers]
    for layer in made.layers:
        if layer.path in found and calls.count(layer.path) == 1 and not layer.rf_probed:
            assert layer.rf_out is not None
            for side, seen in zip(layer.rf_out, found[layer.path], strict=True):
                assert seen <= side
                if side <= 14:
                    assert seen == side
                    compared += 1
    assert compared >= 2 or name == "Functional"
    assert any(layer.rf_probed for layer in made.layers) == (name in NO_RULE)


@pytest.mark.parametrize("name", sorted({*ZOO} - NO_RULE))
def test_the_receptive_field_of_the_scores_equals_the_probe(name: str) -> None:
    net = nn.Sequential(ZOO[name](10, 1), nn.Identity())
    traced = trace(net, IMAGE)
    propagation = FieldPropagation(traced.image)
    for event in traced.events:
        if isinstance(event, Operator):
            propagation.apply(event)
    assert propagation.notes == []
    spans = propagation.spans(traced.output)
    assert spans is not None
    for span, seen in zip(spans, probe(net, IMAGE)["1"], strict=True):
        expected = min(int(span.last.max()), 27) - max(int(span.first.min()), 0) + 1
        # a field that reaches into padding may miss the one line that a stride skips
        assert seen == expected or (seen, expected) == (27, 28)


@pytest.mark.parametrize("name", ZOO)
def test_train_check_predict_report(name: str, digits: "Dataset", tmp_path: Path) -> None:
    outcome = run(experiment(name), RunOptions(out=tmp_path, threads=1, seed=1), dataset=digits)
    assert outcome.folder is not None
    assert outcome.record is not None
    assert outcome.record.epochs[0].train.loss < 2.6  # log 10 is 2.3
    found = check(outcome.folder)
    assert found.differences == ()
    assert found.record.profile.num_params == outcome.record.profile.num_params

    images = digits.test.images[:5]
    paths = [tmp_path / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image[0].numpy()).save(path)
    with torch.no_grad():
        scores = restore(outcome.folder, outcome.record)(normalize(images, digits.mean, digits.std))
    sums = scores.exp().sum(1)
    assert torch.allclose(sums, torch.ones(5), atol=1e-4) == (name in LOG_PROBABILITIES)
    for prediction, row in zip(predict(outcome.folder, paths), scores.softmax(1), strict=True):
        label, share = prediction.classes[0]
        assert label == str(int(row.argmax()))
        assert share == pytest.approx(float(row.max()), abs=1e-4)

    write_report(read_run(outcome.folder), outcome.folder)
    page = (outcome.folder / "report.html").read_text(encoding="utf-8")
    for layer in outcome.record.profile.layers:
        assert layer.name in page
    for note in outcome.record.profile.notes:
        assert note.split()[0] in page


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_it_learns_and_its_report_has_plots(name: str, digits: "Dataset", tmp_path: Path) -> None:
    outcome = run(experiment(name, epochs=6), RunOptions(out=tmp_path, threads=1), dataset=digits)
    assert outcome.folder is not None
    assert outcome.record is not None
    assert outcome.record.test.score.accuracy > 0.2  # guessing gives 0.1
    write_report(read_run(outcome.folder), outcome.folder)
    drawn = {path.stem for path in (outcome.folder / "figures").glob("*.png")}
    assert {"accuracy", "network", "samples"} <= drawn
    assert ("feature-maps" in drawn) == (name != "Functional")


def test_a_report_of_a_network_with_an_unused_layer(
    digits: "Dataset", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "import torch\n\nclass Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.forgotten = torch.nn.Conv2d(1, 4, 3)\n"
        "        self.scores = torch.nn.Linear(784, 10)\n\n"
        "    def forward(self, x):\n"
        "        return self.scores(x.flatten(1))\n"
    )
    monkeypatch.setattr("smidgen.runs.train.write_report", lambda *_: None)
    lone = Experiment(
        name="lone",
        model=Model(module=f"{own}:Net"),
        data=Data(name="digits"),
        train=Train(epochs=1, batch_size=64, optimizer=Optimizer(name="sgd", lr=0.01)),
    )
    outcome = run(lone, RunOptions(out=tmp_path / "runs", threads=1), dataset=digits)
    assert outcome.folder is not None
    assert outcome.record is not None
    assert outcome.record.profile.notes == ("forgotten is never used: 40 parameters.",)
    monkeypatch.setattr("smidgen.report.run_page.sections_of", lambda _: [])
    write_report(read_run(outcome.folder), outcome.folder)
    assert check(outcome.folder).passed


def test_shared_weights_are_averaged_like_separate_ones() -> None:
    from smidgen.training.averaging import EMA

    class Pair(nn.Module):
        def __init__(self, shared: bool) -> None:
            super().__init__()
            self.one = nn.Linear(1, 1)
            self.two = self.one if shared else nn.Linear(1, 1)

    found = []
    for shared in (False, True):
        net = Pair(shared)
        nn.init.constant_(net.one.weight, 1.0)
        average = EMA(net, 0.5)
        nn.init.constant_(net.one.weight, 2.0)
        for _ in range(3):
            average.update()
        found.append(average.network.one.weight.item())  # type: ignore[union-attr, operator]
    assert found[0] == found[1] < 2
