"""Bits are chosen on the validation split; rounding that costs too much is trained away."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import smidgen
from smidgen.cli import main
from smidgen.errors import ConfigError, ExportError
from smidgen.exporters.graph import Graph
from smidgen.exporters.quantization import packed_bytes
from smidgen.exporters.tracing import graph_of
from smidgen.record import Quantization, read_export
from smidgen.runs.load import load_network
from smidgen.runs.quantize import Bits, Quantizer, require_bits

if TYPE_CHECKING:
    from smidgen.data import Dataset

Quantize = Callable[..., Quantization]


@pytest.fixture(scope="module")
def graph(finished_folder: Path) -> Graph:
    network = load_network(finished_folder)
    return graph_of(network.network, network.image_shape, network.mean, network.std)


@pytest.fixture
def quantize(graph: Graph, record: smidgen.RunRecord, digits: "Dataset") -> Quantize:
    """What a Quantizer chooses for the finished run."""

    def chosen(dataset: "Dataset" = digits, bits: Bits = (8,), **limits: float) -> Quantization:
        quantizer = Quantizer(record=record, dataset=dataset, bits=bits, **limits)  # type: ignore[arg-type]
        quantizer(graph)
        assert quantizer.result is not None
        return quantizer.result

    return chosen


def test_rounding_that_costs_little_is_not_trained_away(graph: Graph, quantize: Quantize) -> None:
    made = quantize(tolerance=0.1)
    assert (made.bits, made.split) == ((8, 8, 8), "validation")
    assert (made.fine_tune_epochs, made.num_epochs) == (0, 2)
    assert made.weight_bytes == packed_bytes(graph, (8, 8, 8))
    (trial,) = made.trials
    assert (trial.accuracy, trial.fine_tuned_accuracy) == (made.accuracy, None)


def test_fine_tuning_is_counted(quantize: Quantize) -> None:
    rounded = quantize(bits=(2,), tolerance=1)
    loss = rounded.float_accuracy - rounded.accuracy
    assert loss > 0.01
    made = quantize(bits=(2,), tolerance=loss - 0.005)
    assert made.accuracy > rounded.accuracy
    assert made.fine_tune_epochs in (1, 2)
    assert made.num_epochs == 2 + made.fine_tune_epochs
    assert made.trials[0].fine_tuned_accuracy == made.accuracy


def test_what_fine_tuning_cannot_save_fails_once_and_for_all(
    graph: Graph,
    record: smidgen.RunRecord,
    digits: "Dataset",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    monkeypatch.setattr("smidgen.runs.quantize.fine_tune", lambda *given: calls.append(given[2]))
    quantizer = Quantizer(record=record, dataset=digits, tolerance=-1)
    for _ in range(2):
        with pytest.raises(
            ExportError, match=r"integer network loses .* points of accuracy on the"
        ):
            quantizer(graph)
    batches = -(-len(digits.train) // 32)
    assert calls == [batches, 2 * batches]


def test_a_limit_on_bytes_chooses_the_largest_network_that_fits(
    graph: Graph, quantize: Quantize
) -> None:
    # 3 weights in a run, of the first layer, take 2 bytes with 4 bits and 3 with 2, unpacked
    most, least = packed_bytes(graph, (8, 8, 8)), packed_bytes(graph, (4, 2, 2))
    limit = (most + least) // 2
    made = quantize(bits="auto", max_weight_bytes=limit, tolerance=1)
    sizes = [trial.weight_bytes for trial in made.trials]
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1], len(sizes)) == (most, least, 6)
    assert made.weight_bytes == max(size for size in sizes if size <= limit)
    with pytest.raises(ConfigError, match=f"take {least} bytes with 4, 2, 2 bits; at most 9"):
        quantize(bits="auto", max_weight_bytes=9)
    with pytest.raises(ConfigError, match=f"take {most} bytes with 8, 8, 8 bits; at most 9"):
        quantize(max_weight_bytes=9)


def test_without_a_limit_the_smallest_network_is_chosen_that_is_accurate(
    quantize: Quantize,
) -> None:
    made = quantize(bits="auto", tolerance=0.03)
    smaller = [trial for trial in made.trials if trial.weight_bytes < made.weight_bytes]
    assert made.accuracy >= made.float_accuracy - 0.03
    tuned = [trial.fine_tuned_accuracy for trial in smaller]
    assert all(accuracy is None or accuracy < made.float_accuracy - 0.03 for accuracy in tuned)
    assert quantize(bits="auto", tolerance=1).bits == (4, 2, 2)


def test_the_test_images_have_no_influence(digits: "Dataset", quantize: Quantize) -> None:
    black = replace(digits, test=replace(digits.test, images=0 * digits.test.images))
    assert quantize(black, bits="auto", tolerance=0.2) == quantize(bits="auto", tolerance=0.2)


def test_without_validation_images_training_images_decide(
    digits: "Dataset", quantize: Quantize
) -> None:
    assert quantize(replace(digits, validation=None), tolerance=1).split == "train"


@pytest.mark.parametrize("bits", [(3,), (8, 8), (), (8, 8, 8, 8)])
def test_other_bits_are_refused(bits: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="must be 8, 4 or 2, one for all layers or 3, one for"):
        require_bits(bits, 3)


def test_the_command_prints_accuracy_against_bytes(
    run_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(run_copy), "--to", "int8", "--bits", "auto", "--max-accuracy-loss", "1"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "fine-tuned for" not in out
    assert "\n  bits   bytes  validation  fine-tuned\n  8 8 8 " in out
    assert "\n  4 2 2 " in out
    found = read_export(run_copy)
    assert found is not None
    made = found.artifacts[0].quantization
    assert made is not None
    assert made.bits == (4, 2, 2)
    loss = made.float_accuracy - made.accuracy
    limit = str(loss - 0.005)
    assert main([*words[:4], "--bits", "2", "--max-accuracy-loss", limit]) in (0, 1)
    out = capsys.readouterr().out
    assert re.search(
        r"fine-tuned for [12] epochs?, which makes [34], more than the budget's 2", out
    )
    assert main([*words[:4], "--bits", "8,4"]) == 2
    assert main([*words[:4], "--max-accuracy-loss", "-1"]) == 2
    assert "max_accuracy_loss is -1.0; it must be a fraction" in capsys.readouterr().err
