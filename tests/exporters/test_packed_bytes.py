"""The bytes by which bits are chosen are those of the C code."""

import re

import pytest
import torch
from exported_networks import trained

from smidgen.exporters.c import SOURCE, c_code
from smidgen.exporters.conversion import to_integers
from smidgen.exporters.quantization import GraphNetwork, packed_bytes
from smidgen.exporters.tracing import graph_of
from smidgen.models.chain import build_chain


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("chain", ["3 5 7,k2 M F", "3,p1 6,d,p1 6,k1 F", "5,k5,s2 3 F"])
def test_the_c_code_takes_the_bytes_that_were_promised(chain: str, bits: int) -> None:
    shape = (1, 17, 14)
    graph = graph_of(trained(build_chain(chain, shape, 10)), shape, (0.5,), (0.5,))
    network = GraphNetwork(graph, bits)
    network.calibrate(torch.randn(20, *shape))
    code = c_code(to_integers(network), title="", origin="", classes=["x"] * 10)[SOURCE]
    lengths = re.findall(r"(?:weights|channel_values)\[(\d+)\] FLASH", code)
    weights, values = map(int, lengths)
    assert packed_bytes(graph, list(network.bits.values())) == weights + 2 * values
