"""Layer table, parameters and MACs, against published tables and other counters."""

import csv
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import torchinfo
from small_nets import NETS, SHAPE, Function, Scaled
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from smidgen.errors import ModelError
from smidgen.models import REFERENCE
from smidgen.profiling import check_output, profile
from smidgen.record import Profile

PUBLISHED = Path(__file__).parents[1] / "golden" / "reference"
MNIST = (1, 28, 28)
ALL = {name: (net, SHAPE) for name, net in NETS.items()} | {
    name: (net, MNIST) for name, net in REFERENCE.items()
}


def read_tsv(name: str) -> list[list[str]]:
    with (PUBLISHED / f"{name}.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t"))[1:]


@pytest.mark.parametrize("name", REFERENCE)
def test_rows_equal_the_published_table(name: str) -> None:
    made = profile(REFERENCE[name](), MNIST)
    rows = [
        [layer.name, ",".join(map(str, (-1, *layer.output_shape))), str(layer.params)]
        for layer in made.layers
    ]
    assert rows == read_tsv(name)
    assert made.notes == ()


def test_receptive_fields_equal_the_published_ones_except_for_an_error() -> None:
    rows: list[list[str]] = []
    for layer in profile(REFERENCE["gap-11k"](), MNIST).layers:
        if layer.window is not None:
            window = layer.window
            sizes = [
                f"{a}x{b}"
                for a, b in (window.kernel, layer.input_shape[1:], layer.output_shape[1:])
            ]
            fields = (layer.rf_in, layer.rf_out, layer.jump_in, layer.jump_out)
            numbers = (window.stride, window.padding, *fields)
            assert all(pair and pair[0] == pair[1] for pair in numbers)
            stride, padding, *rest = [str(pair[0]) for pair in numbers if pair]
            operation = layer.operation.replace("Pool2d", "Pool")
            first = [str(len(rows) + 1), operation, sizes[0], stride, padding]
            rows.append([*first, *sizes[1:], *rest])
    published = read_tsv("e_receptive_field")
    assert (published[7][8], published[8][7]) == ("20", "20")
    published[7][8] = published[8][7] = "22"  # 18 + 2 * 2; a mistake on the page, whose 32 is right
    assert rows == published


@pytest.mark.parametrize("name", ALL)
def test_counts_equal_other_counters(name: str) -> None:
    build, shape = ALL[name]
    net = build()
    made = profile(net, shape)
    info = torchinfo.summary(net, input_size=(1, *shape), verbose=0, device="cpu")
    assert made.num_params == info.total_params
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net.eval()(torch.rand(1, *shape))
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    inside = sum(row.macs for row in made.layers if row.operation == "attention")
    assert made.macs - inside == counter.get_total_flops() / 2
    assert (inside > 0) == (name == "attention")  # which torch's counter leaves out


@pytest.mark.parametrize("name", ALL)
def test_rows_add_up_to_the_totals(name: str) -> None:
    build, shape = ALL[name]
    made = profile(build(), shape)
    assert sum(row.params for row in made.layers) == made.num_params
    assert sum(row.macs for row in made.layers) == made.macs
    numbers = [int(row.name.rpartition("-")[2]) for row in made.layers]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 8, 3, groups=2, stride=2),
        nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2),
        nn.Conv1d(4, 8, 3),
        nn.Conv3d(1, 2, 3),
    ],
)
def test_macs_of_convolutions(conv: nn.Module) -> None:
    shape = {1: (4, 9), 2: (4, 9, 8), 3: (1, 5, 6, 7)}[len(conv.kernel_size)]  # type: ignore[arg-type]
    with FlopCounterMode(display=False) as counter:
        conv(torch.rand(1, *shape))
    assert profile(conv, shape).macs == counter.get_total_flops() / 2


def test_attention_counts_both_products() -> None:
    net = Function(lambda m, x: F.scaled_dot_product_attention(x, x, x))
    assert profile(net, (3, 10, 4)).macs == 3 * 10 * 10 * (4 + 4)


def test_functions_with_a_window_have_rows_and_pointwise_ones_do_not() -> None:
    net = Function(
        lambda m, x: F.log_softmax(F.relu(F.max_pool2d(m.conv(x), 2)).mean((2, 3)), 1),
        conv=nn.Conv2d(2, 4, 3),
    )
    made = profile(net, SHAPE)
    assert [row.name for row in made.layers] == ["Conv2d-1", "max_pool2d-2", "mean-3"]
    assert [row.output_shape for row in made.layers] == [(4, 22, 18), (4, 11, 9), (4,)]
    assert made.layers[1].window is not None
    assert made.layers[1].window.kernel == (2, 2)


def test_bare_parameters_have_a_row() -> None:
    layers = profile(Scaled(), SHAPE).layers
    names = [(row.name, row.params) for row in layers]
    assert names == [("Scaled-1", 4), ("Conv2d-2", 76), ("max_pool2d-3", 0)]
    assert [row.rf_out for row in layers] == [None, (3, 3), (4, 4)]


def test_a_shared_module_counts_once() -> None:
    net = Function(lambda m, x: m.conv(m.conv(x)), conv=nn.Conv2d(2, 2, 3))
    made = profile(net, SHAPE)
    assert [(row.name, row.params) for row in made.layers] == [("Conv2d-1", 38), ("Conv2d-2", 0)]
    assert made.num_params == 38


def test_weights_computed_from_parameters() -> None:
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 4, 3))
    made = profile(conv, SHAPE)
    assert (made.num_params, made.macs) == (72 + 4 + 4, 72 * 22 * 18)
    assert sum(row.params for row in made.layers) == made.num_params
    assert made.layers[-1].rf_out == (3, 3)


def test_tied_weights_count_once() -> None:
    net = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False))
    net[1].weight = net[0].weight
    made = profile(net, (6,))
    assert (made.num_params, made.weight_bytes) == (36, 144)
    assert [row.params for row in made.layers] == [36, 0]


def test_unused_parameters_are_counted_and_named() -> None:
    net = Function(lambda m, x: m.used(x), used=nn.Conv2d(2, 2, 1), spare=nn.Linear(9, 10))
    made = profile(net, SHAPE)
    assert made.num_params == 6 + 100
    assert made.notes == ("spare is never used: 100 parameters.",)


def test_frozen_parameters_are_not_trainable() -> None:
    net = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
    net[0].requires_grad_(False)
    made = profile(net, SHAPE)
    assert (made.num_params, made.num_trainable_params) == (10, 4)
    assert made.weight_bytes == 4 * (6 + 4 + 4) + 8  # running statistics, and the batch counter


def test_the_network_and_the_random_state_are_left_unchanged() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls: torch.Tensor
            self.register_buffer("calls", torch.zeros(1))
            self.norm = nn.BatchNorm2d(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            out: torch.Tensor = F.dropout(self.norm(x), training=True)
            return out

    net = Counting()
    net.norm.eval()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    state = torch.get_rng_state()
    profile(net, SHAPE)
    assert net.training
    assert not net.norm.training
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not net._forward_hooks
    assert not net.norm._forward_pre_hooks


def test_inference_mode_inside_forward_changes_nothing() -> None:
    inner = NETS["linear"]().eval()
    net = Function(lambda m, x: torch.inference_mode()(m.inner)(x), inner=inner)
    assert profile(net, SHAPE).macs == profile(inner, SHAPE).macs


def test_an_operator_with_unknown_macs_is_refused() -> None:
    with pytest.raises(ModelError, match="multiply-adds of mkldnn_rnn_layer"):
        profile(Function(lambda m, x: m.lstm(x)[0], lstm=nn.LSTM(4, 4, batch_first=True)), (5, 4))


def test_output_is_checked() -> None:
    made: Profile = profile(nn.Conv2d(2, 10, 3), SHAPE)
    with pytest.raises(ModelError, match=r"returns \(batch, 10, 22, 18\).*\(batch, 10\)"):
        check_output(made, 10)
    check_output(profile(nn.Linear(4, 10), (4,)), 10)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda m, x: (x, x), "returns a tuple"),
        (lambda m, x: x.view(-1, 40), r"returns \(24, 40\) for one image"),
        (lambda m, x: x.sum(), r"returns \(\) for one image"),
    ],
)
def test_output_without_a_batch(function: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        profile(Function(function), SHAPE)  # type: ignore[arg-type]


def lazy() -> nn.Sequential:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(
            nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Dropout(), nn.Flatten(), nn.LazyLinear(3)
        )


def test_lazy_layers_are_initialized_by_the_input_shape() -> None:
    made = profile(lazy(), SHAPE)
    eager = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(1584, 3)
    )
    assert made == profile(eager, SHAPE)


def test_lazy_initialization_repeats_and_changes_nothing_else() -> None:
    found = []
    for _ in range(2):
        net = lazy()
        net[3].eval()
        net.register_buffer("calls", torch.zeros(1))
        net.register_forward_hook(lambda m, args, out: m.calls.add_(1) and None)
        torch.manual_seed(3)
        state = torch.get_rng_state()
        profile(net, SHAPE)
        assert torch.equal(torch.get_rng_state(), state)
        assert net.training
        assert not net[3].training
        assert net.calls == 0
        found.append(net.state_dict())
    assert found[0]["4.weight"].shape == (3, 1584)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_lazy_layer_that_forward_never_calls_is_named() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = Function(lambda m, x: m.used(x), used=nn.LazyConv2d(2, 1), spare=nn.LazyLinear(3))
    with pytest.raises(ModelError, match=r"lazy layers that its forward does not call: spare"):
        profile(net, SHAPE)


def test_a_lazy_network_that_fails_says_why() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.Sequential(nn.LazyConv2d(4, 3), nn.Conv2d(5, 4, 3))
    with pytest.raises(ModelError, match=r"lazy layers .* \(2, 24, 20\): .*expected.* 5 channels"):
        profile(net, SHAPE)


def test_the_documented_numbers_equal_the_profile() -> None:
    page = (Path(__file__).parents[2] / "docs" / "definitions.md").read_text(encoding="utf-8")
    for name, build in REFERENCE.items():
        made = profile(build(), MNIST)
        [field, _] = made.layers[-1].rf_out or (0, 0)
        numbers = [made.num_params, made.macs, field, made.weight_bytes]
        numbers += [made.peak_activation_bytes, made.largest_buffer_bytes]
        [line] = [row for row in page.splitlines() if f"{made.macs:,}" in row]
        assert line.startswith(f"| {name} (")
        assert [cell.strip() for cell in line.split("|")[2:-1]] == [f"{n:,}" for n in numbers]
