"""The probe for layers without a rule, against known receptive fields."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_nets import NETS, SHAPE, Function
from torch import Tensor, nn

from smidgen.profiling import profile
from smidgen.profiling.profiler import PROBED
from smidgen.profiling.receptive_field.probe import probe

SIDES = (1, 40, 37)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([nn.Conv2d(1, 2, 3)], [(3, 3)]),
        ([nn.Conv2d(1, 2, (5, 1), padding=(2, 0)), nn.ReLU()], [(5, 1), (5, 1)]),
        ([nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Conv2d(2, 2, 3)], [(3, 3), (4, 4), (8, 8)]),
        ([nn.Conv2d(1, 1, 3, dilation=4), nn.AvgPool2d(3, stride=1)], [(9, 9), (11, 11)]),
        ([nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Conv2d(1, 1, 2)], [(1, 1), (1, 1), (2, 2)]),
        ([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 3)], [(40, 37)] * 3),
    ],
)
def test_known_fields(layers: list[nn.Module], expected: list[tuple[int, int]]) -> None:
    found = probe(nn.Sequential(*layers), SIDES)
    assert found == {str(place): pair for place, pair in enumerate(expected)}


@pytest.mark.parametrize("name", ["stack", "residual", "concat", "depthwise", "uneven"])
def test_probe_and_rules_agree_where_the_border_is_far_enough(name: str) -> None:
    net = NETS[name]()
    found = probe(net, SHAPE)
    for layer in profile(net, SHAPE).layers:
        assert not layer.rf_probed
        assert found[layer.path] == layer.rf_out


def test_the_border_clips_a_field() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 9, padding=4), nn.Conv2d(1, 1, 9, padding=4))
    assert probe(net, (1, 12, 30)) == {"0": (9, 9), "1": (12, 17)}


def test_modules_without_image_or_tensor_output_are_left_out() -> None:
    net = Function(
        lambda m, x: m.after(m.named(x)["x"] + m.two(x)[0] + m.constant(torch.ones_like(x))),
        named=Function(lambda m, x: {"x": x}),
        two=Function(lambda m, x: (m.inner(x), x.amax()), inner=nn.Conv2d(1, 1, 5, padding=2)),
        constant=nn.Conv2d(1, 1, 3, padding=1),
        after=nn.Conv2d(1, 1, 3),
        unused=nn.Conv2d(1, 1, 3),
    )
    assert probe(net, (1, 9, 9)) == {"two.inner": (5, 5), "after": (7, 7)}


def test_the_last_call_of_a_module_counts() -> None:
    conv = nn.Conv2d(1, 1, 3)
    assert probe(nn.Sequential(conv, nn.ReLU(), conv), SIDES) == {"0": (5, 5), "1": (3, 3)}


def test_channels_can_be_any_dimension() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, (3, 5)),
        Function(lambda m, x: m.norm(x.permute(0, 2, 3, 1)), norm=nn.LayerNorm(4)),
        Function(lambda m, x: m.attend(x.flatten(1, 2)), attend=nn.Linear(4, 4)),
    )
    found = probe(net, (1, 20, 30))
    assert found == {"0": (3, 5), "1.norm": (3, 5), "2.attend": (3, 5)}


def test_a_module_that_returns_a_tuple() -> None:
    net = Function(
        lambda m, x: m.attend(*[m.conv(x).flatten(2).transpose(1, 2)] * 3),
        conv=nn.Conv2d(1, 4, 4, stride=4),
        attend=nn.MultiheadAttention(4, 2, batch_first=True),
    )
    found = probe(Function(lambda m, x: m.net(x)[0], net=net), (1, 16, 24))
    assert found["net.conv"] == (4, 4)
    # torch calls the function of its last projection, not the module
    assert set(found) == {"net.conv"}


def test_the_network_is_left_unchanged() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(1)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            assert isinstance(self.calls, Tensor)
            self.calls += 1
            out: Tensor = self.norm(x) + torch.rand(())
            return out

    net = Counts()
    net.norm.eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    assert probe(net, (1, 8, 8)) == {"norm": (1, 1)}
    assert torch.equal(torch.rand(4), expected)
    assert (net.training, net.norm.training) == (True, False)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert not net.norm._forward_hooks


def single(m: Any, x: Tensor) -> Tensor:
    return x.view(1, *x.shape[1:])


def refuses_nan(m: Any, x: Tensor) -> Tensor:
    assert not x.isnan().any()
    return x


def raises(kind: type[Exception]) -> Callable[[Any, Tensor], Tensor]:
    def forward(m: Any, x: Tensor) -> Tensor:
        if len(x) != 1:
            raise kind("one at a time")
        return x

    return forward


@pytest.mark.parametrize(
    "function", [single, refuses_nan, raises(ValueError), raises(KeyError), raises(RuntimeError)]
)
def test_a_network_that_fails_under_the_probe_is_profiled_without_it(
    function: Callable[[Any, Tensor], Tensor],
) -> None:
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3), Function(function), nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 3)
    )
    assert probe(net, SHAPE) == {}
    made = profile(net.train(), SHAPE)
    assert made.layers[0].rf_out == (3, 3)
    assert made.layers[-1].rf_out is None
    assert not any(layer.rf_probed for layer in made.layers)
    assert PROBED not in made.notes
    assert "receptive field is not known from" in made.notes[0]
    assert all(part.training for part in net.modules())


def upsampled() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(4, 4, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 10),
    )


def test_measured_rows_are_marked_and_one_note_says_so() -> None:
    made = profile(upsampled(), (1, 28, 28))
    fields = {layer.path: (layer.rf_out, layer.rf_probed) for layer in made.layers}
    assert fields["0"] == fields["1"] == ((3, 3), False)
    assert fields["2"] == ((3, 3), True)  # nearest: four pixels repeat one
    assert fields["3"] == ((5, 5), True)  # three pixels repeat two of the map before: 3 + 2
    assert fields["6"][1]
    assert all(side > 20 for side in fields["6"][0] or ())
    assert made.notes[-1] == PROBED
    assert made.notes.count(PROBED) == 1
    text = str(made)
    assert PROBED in " ".join(text.split())
    rows = [line for line in text.splitlines() if "Conv2d-4" in line]
    assert rows
    assert any("5*" in row for row in rows)
    assert not any("3*" in line for line in text.splitlines() if "Conv2d-1" in line)


def test_a_large_image_is_probed_in_batches() -> None:
    batches: list[int] = []

    class Watch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            batches.append(len(x))
            return x

    found = probe(nn.Sequential(Watch(), nn.Conv2d(1, 1, 3)), (1, 96, 64))
    assert found["1"] == (3, 3)
    assert sum(batches) == 160
    assert max(batches) <= 32
