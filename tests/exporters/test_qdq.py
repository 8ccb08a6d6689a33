"""onnxruntime computes of the QDQ file what the integer network does, up to rounding."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from exported_networks import MEAN, NETWORKS, SHAPE, STD, trained

from smidgen.exporters.conversion import to_integers
from smidgen.exporters.integer import IntegerNetwork
from smidgen.exporters.qdq import qdq_model
from smidgen.exporters.quantization import GraphNetwork
from smidgen.exporters.tracing import graph_of
from smidgen.models.chain import build_chain


def quantized(
    network: torch.nn.Module, shape: tuple[int, int, int], bits: int
) -> tuple[IntegerNetwork, Any]:
    """The integer network and pixels that it was calibrated with."""
    graph = graph_of(trained(network), shape, MEAN[: shape[0]], STD[: shape[0]])
    made = GraphNetwork(graph, bits)
    pixels = torch.randint(0, 256, (40, *shape), generator=torch.Generator().manual_seed(2))
    made.calibrate(made.centered(pixels))
    return to_integers(made), pixels.numpy().astype(np.uint8)


def steps_of(model: Any, integers: IntegerNetwork, pixels: Any, optimized: str = "") -> Any:
    """The int8 scores that onnxruntime computes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = optimized
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    (scores,) = session.run(["scores"], {"pixels": pixels})
    last = integers.layers[-1]
    return np.round(scores / last.scale) + last.zero_point


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_onnxruntime_gives_the_scores_of_the_integer_network(
    name: str, bits: int, tmp_path: Any
) -> None:
    integers, pixels = quantized(NETWORKS[name](), SHAPE, bits)
    model = qdq_model(integers, "pixels", "scores")
    onnx.checker.check_model(model, full_check=True)
    for optimized in ("", str(tmp_path / "optimized.onnx")):
        differences = abs(steps_of(model, integers, pixels, optimized) - integers.scores(pixels))
        assert differences.max() <= 3
        assert np.mean(differences <= 1) >= 0.98


def test_all_layers_of_a_chain_run_in_integers(tmp_path: Any) -> None:
    integers, pixels = quantized(build_chain("6 6,p1,r M 8 8,p1 G", (1, 12, 16), 5), (1, 12, 16), 8)
    path = tmp_path / "optimized.onnx"
    steps_of(qdq_model(integers, "pixels", "scores"), integers, pixels, str(path))
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert "QLinearConv" in kinds
    assert not kinds & {"Conv", "FusedConv", "AveragePool", "Add"}


def test_no_sum_of_two_products_can_exceed_16_bits_where_the_processor_adds_them_so() -> None:
    integers, _ = quantized(NETWORKS["flat"](), SHAPE, 8)
    model = qdq_model(integers, "pixels", "scores")
    kinds = {t.data_type for t in model.graph.initializer if t.name.endswith("/weight")}
    assert kinds == {onnx.TensorProto.UINT8}  # int8 weights saturate on AVX2 without VNNI
