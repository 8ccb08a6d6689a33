import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels_oracle import assert_same, by_kernels, by_torch, calm_images, needs_compiler
from torch import Tensor, nn

from smidgen.errors import ConfigError
from smidgen.kernels import Unsupported, compile_network
from smidgen.models.chain import build_chain
from smidgen.models.reference import REFERENCE

pytestmark = needs_compiler

DEFAULT = "8 8 M 14 14 14 16 G"
WIDTHS = [
    (),
    pytest.param(("-mno-avx512f",), marks=pytest.mark.slow),
    pytest.param(("-DLANES_WIDTH=8",), marks=pytest.mark.slow),
    pytest.param(("-DLANES_WIDTH=4",), marks=pytest.mark.slow),
]
"""Compiler flags: the processor's own width, and those of others."""


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    network = make()
    for name, value in [*network.named_parameters(), *network.named_buffers()]:
        if value.ndim == 1:  # batch norms and biases are all alike when new
            with torch.no_grad():
                value.add_(0.3 * torch.rand_like(value) if "running" not in name else 0.1)
    return network


def chain(text: str, shape: tuple[int, int, int] = (1, 28, 28)) -> nn.Module:
    return seeded(lambda: build_chain(text, shape, 10))


class Normalless(nn.Module):
    """Biases, ReLU and pools without a batch norm, in functions as well as layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 5, (3, 2), padding=(2, 0))
        self.act = nn.ReLU()
        self.pool = nn.MaxPool2d((2, 3))
        self.second = nn.Conv2d(5, 6, 3, bias=False)
        self.average = nn.AvgPool2d(2)
        self.classes = nn.Linear(6 * 2 * 1, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.average(self.second(self.pool(self.act(self.first(x)))))
        return F.log_softmax(self.classes(x.flatten(1)), dim=1)


class Joined(nn.Module):
    """An addition with a ReLU after it, the images themselves added, batch norm on vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(2, affine=False, momentum=0.3)
        self.second = nn.Conv2d(2, 2, 5, padding=2, groups=2)
        self.act = nn.ReLU()
        self.hidden = nn.Linear(2 * 6 * 5, 7)
        self.vectors = nn.BatchNorm1d(7)
        self.classes = nn.Linear(7, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x)) + x
        x = self.act(torch.add(x, self.second(x)))
        out: Tensor = self.classes(self.vectors(self.hidden(torch.flatten(x, 1))))
        return out


@pytest.mark.parametrize("flags", WIDTHS)
@pytest.mark.parametrize("name", REFERENCE)
def test_reference_networks_take_the_step_that_torch_takes(
    name: str, flags: tuple[str, ...]
) -> None:
    network = seeded(lambda: REFERENCE[name](dropout=0.0))
    images = torch.randn(5, 1, 28, 28, generator=torch.Generator().manual_seed(2))
    assert_same(by_kernels(network, images, flags=flags), by_torch(network, images), 1e-4)


@pytest.mark.parametrize("flags", WIDTHS)
@pytest.mark.parametrize(
    "text",
    [
        "6 6 M 7 9 G",
        "4,k1 6,k2 6,k5,p2 M3 9,k3,p1 F",
        "6,s2 6,d 8,k1 8,r,p1 A 9,k2,s2,p1 G",
        "3,k3,p1,r 12,d,p1 12,k5,p2,r 12,k3,p1,r M 20,k3,p2 F",
    ],
)
@pytest.mark.parametrize("count", [2, 16, 21])
def test_chains_take_the_step_that_torch_takes(
    text: str, count: int, flags: tuple[str, ...]
) -> None:
    network = chain(text, (3, 16, 19))
    images = calm_images(network, count, (3, 16, 19))
    assert_same(by_kernels(network, images, flags=flags), by_torch(network, images))


@pytest.mark.parametrize("flags", WIDTHS)
def test_other_forms_take_the_step_that_torch_takes(flags: tuple[str, ...]) -> None:
    for make, shape in ((Normalless, (3, 11, 14)), (Joined, (2, 6, 5))):
        network = seeded(make)
        images = calm_images(network, 19, shape)
        assert_same(by_kernels(network, images, flags=flags), by_torch(network, images))


@pytest.mark.parametrize("count", range(1, 41))
def test_a_batch_need_not_fill_its_vectors(count: int) -> None:
    network = chain("4 M 5 G", (1, 10, 11))
    images = calm_images(network, count, (1, 10, 11))
    assert_same(by_kernels(network, images), by_torch(network, images))


_CONVOLUTION = st.builds(
    lambda channels, kernel, padding, stride, more: (
        f"{channels},k{kernel},p{min(padding, kernel - 1)},s{stride}{more}"
    ),
    st.integers(1, 20),
    st.integers(1, 5),
    st.integers(0, 2),
    st.integers(1, 3),
    st.sampled_from(["", "", ",d", ",r"]),
)


@settings(max_examples=40, deadline=None)
@given(
    tokens=st.lists(st.one_of(_CONVOLUTION, st.sampled_from(["M", "A", "M3"])), max_size=5),
    head=st.sampled_from("GF"),
    shape=st.tuples(st.integers(1, 3), st.integers(4, 12), st.integers(4, 12)),
    count=st.integers(2, 20),
)
def test_random_chains_take_the_step_that_torch_takes(
    tokens: list[str], head: str, shape: tuple[int, int, int], count: int
) -> None:
    try:
        network = chain(" ".join([*tokens, head]), shape)
        images = calm_images(network, count, shape)
    except (ConfigError, AssertionError):  # does not fit together, or has only ties
        return
    assert_same(by_kernels(network, images), by_torch(network, images), 1e-4)


def test_the_first_of_equal_maxima_takes_the_gradient_and_zero_gives_none() -> None:
    first = nn.Conv2d(1, 4, 3)
    network = nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    images = torch.randint(-1, 2, (9, 1, 6, 6)).float()  # equal sums abound
    with torch.no_grad():
        first.weight.copy_(torch.randint(-1, 2, (4, 1, 3, 3)))
        nn.init.zeros_(first.bias)  # type: ignore[arg-type]
    ours, theirs = by_kernels(network, images), by_torch(network, images)
    assert_same(ours, theirs, 1e-6)


def train(
    network: nn.Module, forward: Callable[[Tensor], Tensor], counts: tuple[int, ...]
) -> list[float]:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    generator, losses = torch.Generator().manual_seed(4), []
    for count in counts:
        images = torch.randn(count, 1, 28, 28, generator=generator)
        labels = torch.randint(0, 10, (count,), generator=generator)
        loss = F.cross_entropy(forward(images), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    return losses


@contextmanager
def skipped_without_bfloat16() -> Iterator[None]:
    try:
        yield
    except Unsupported as error:
        if "bfloat16" in str(error):
            pytest.skip(str(error))
        raise


def bytes_of(network: nn.Module) -> list[bytes]:
    return [t.numpy().tobytes() for t in network.state_dict().values()]


def test_several_steps_stay_close_to_torchs() -> None:
    ours, theirs = chain(DEFAULT), chain(DEFAULT)
    counts = (32, 31, 64, 32, 17)
    lanes = compile_network(ours, (1, 28, 28))
    assert train(ours, lanes, counts) == pytest.approx(train(theirs, theirs, counts), rel=1e-3)
    for name, value in theirs.state_dict().items():
        apart = (ours.state_dict()[name] - value).float().norm()
        assert apart <= 5e-3 * value.float().norm() + 1e-4, name


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", REFERENCE)
def test_the_same_seed_gives_the_same_bytes_for_any_number_of_threads(
    name: str, half: bool
) -> None:
    results = []
    for threads in (1, 1, 2, 3):
        network = seeded(REFERENCE[name])
        with skipped_without_bfloat16():
            lanes = compile_network(network, (1, 28, 28), threads=threads, half=half)
        torch.manual_seed(8)
        results.append((train(network, lanes, (40, 39, 17, 40)), bytes_of(network)))
    assert all(result == results[0] for result in results)


def test_a_training_goes_on_from_weights_and_generator_alone() -> None:
    network = seeded(REFERENCE["gap-6k"])
    torch.manual_seed(8)
    train(network, compile_network(network, (1, 28, 28)), (24, 24))
    state, generator = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    ahead = train(network, compile_network(network, (1, 28, 28)), (9, 33)), bytes_of(network)
    again = seeded(REFERENCE["gap-6k"])
    lanes = compile_network(again, (1, 28, 28))
    again.load_state_dict(state, assign=True)  # at other places than when it was planned
    torch.set_rng_state(generator)
    assert (train(again, lanes, (9, 33)), bytes_of(again)) == ahead


def test_bfloat16_is_close() -> None:
    network = chain(DEFAULT)
    images = torch.randn(64, 1, 28, 28)
    with skipped_without_bfloat16():
        ours = by_kernels(network, images, half=True)
    theirs = by_torch(network, images)
    assert (ours.scores - theirs.scores).norm() < 0.05 * theirs.scores.norm()
    flat = [torch.cat([g.flatten() for g in s.gradients.values()]) for s in (ours, theirs)]
    assert torch.cosine_similarity(flat[0], flat[1], 0) > 0.9
    assert (flat[0] - flat[1]).norm() > 0


class Masked(nn.Module):
    """Its first weights' gradient shows the mask: ones through a dropout to a sum."""

    def __init__(self, drop: nn.Module) -> None:
        super().__init__()
        self.spread = nn.Conv2d(1, 20, 1, bias=False)
        self.drop = drop
        self.flat = nn.Flatten()
        self.classes = nn.Linear(20 * 6 * 6, 20 * 6 * 6, bias=False)
        nn.init.ones_(self.spread.weight)
        nn.init.eye_(self.classes.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classes(self.flat(self.drop(self.spread(x))))
        return out


@pytest.mark.parametrize("flags", WIDTHS)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_dropout_drops_its_share_and_scales_the_rest(share: float, flags: tuple[str, ...]) -> None:
    network = Masked(nn.Dropout(share))
    lanes = compile_network(network, (1, 6, 6), flags=flags)
    masks = [lanes(torch.ones(67, 1, 6, 6)).detach() for _ in range(2)]
    for mask in masks:
        assert ((mask == 0) | ((mask * (1 - share) - 1).abs() < 1e-6)).all()
        assert (mask == 0).float().mean().item() == pytest.approx(share, abs=0.01)
    dropped = [(mask == 0).float() - share for mask in masks]
    spread = share * (1 - share)
    for one, other in (
        dropped,  # of two steps
        (dropped[0][1:], dropped[0][:-1]),  # of neighbouring images
        (dropped[0][:, 1:], dropped[0][:, :-1]),  # of neighbouring elements
        (dropped[0][:, 36:], dropped[0][:, :-36]),  # of neighbouring channels
    ):
        assert (one * other).mean().item() / spread == pytest.approx(0, abs=0.03)


def test_dropout_of_channels_drops_whole_ones() -> None:
    network = Masked(nn.Dropout2d(0.3))
    mask = compile_network(network, (1, 6, 6))(torch.ones(200, 1, 6, 6)).detach().view(200, 20, 36)
    assert (mask == mask[:, :, :1]).all()
    assert (mask[:, :, 0] == 0).float().mean().item() == pytest.approx(0.3, abs=0.03)


def test_what_is_dropped_gets_no_gradient() -> None:
    """The sum of the scores is linear in the first weights: each times its gradient gives it."""
    for drop in (nn.Dropout(0.4), nn.Dropout2d(0.4), nn.Sequential(nn.ReLU(), nn.Dropout(0.4))):
        network = Masked(drop)
        scores = compile_network(network, (1, 6, 6))(torch.rand(30, 1, 6, 6))
        torch.autograd.backward(scores.sum())
        gradient = network.spread.weight.grad
        assert gradient is not None
        each = scores.detach().view(30, 20, 36).sum((0, 2))
        torch.testing.assert_close(gradient.flatten(), each, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", REFERENCE)
def test_with_dropout_the_gradient_is_the_slope_of_the_loss(name: str) -> None:
    """One state of the generator gives one set of masks: the loss is a function of weights."""
    network = seeded(REFERENCE[name])
    lanes = compile_network(network, (1, 28, 28))
    images, labels = torch.randn(48, 1, 28, 28), torch.randint(0, 10, (48,))

    def loss() -> Tensor:
        torch.manual_seed(6)
        return F.cross_entropy(lanes(images), labels)

    torch.autograd.backward(loss())
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    steepest = torch.cat([g.flatten() for g in gradients]).norm().item()
    ends = []
    with torch.no_grad():
        for step in (2e-4 / steepest, -4e-4 / steepest):
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter.add_(gradient, alpha=step)
            ends.append(loss().item())
    assert (ends[0] - ends[1]) / 4e-4 == pytest.approx(steepest, rel=0.03)


def test_room_grows_with_the_largest_batch_and_no_further() -> None:
    network = chain(DEFAULT)
    lanes = compile_network(network, (1, 28, 28))
    lanes(torch.randn(1024, 1, 28, 28))
    held = [tensor.data_ptr() for tensor in lanes._room]
    for count in (3, 1024, 1009, 128):
        images = torch.randn(count, 1, 28, 28)
        torch.testing.assert_close(lanes(images), network(images), rtol=1e-3, atol=1e-4)
    assert [tensor.data_ptr() for tensor in lanes._room] == held


def test_a_batch_that_another_has_replaced_cannot_go_backward() -> None:
    network = chain(DEFAULT)
    lanes = compile_network(network, (1, 28, 28))
    first = lanes(torch.randn(4, 1, 28, 28))
    lanes(torch.randn(4, 1, 28, 28))
    with pytest.raises(RuntimeError, match="another batch"):
        torch.autograd.backward(first.sum())


def test_a_nan_shows() -> None:
    network = chain("4 M 4 G")
    lanes = compile_network(network, (1, 28, 28))
    images = torch.randn(20, 1, 28, 28)
    images[3, 0, 5, 5] = float("nan")
    assert lanes(images).isnan().any()


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 1, 27, 28),
        torch.zeros(2, 1, 28, 28, dtype=torch.float64),
        torch.zeros(0, 1, 28, 28),
        torch.zeros(2, 1, 28, 28, requires_grad=True),
    ],
)
def test_other_images_are_refused(images: Tensor) -> None:
    lanes = compile_network(chain(DEFAULT), (1, 28, 28))
    with pytest.raises(ValueError, match="expected"):
        lanes(images)


def test_one_value_is_too_few_for_a_batch_norm_as_in_torch() -> None:
    network = chain("4 4 G", (1, 5, 5))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        network(torch.zeros(1, 1, 5, 5))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        compile_network(network, (1, 5, 5))(torch.zeros(1, 1, 5, 5))


def test_a_network_that_evaluates_is_refused() -> None:
    network = chain(DEFAULT)
    lanes = compile_network(network, (1, 28, 28))
    network.eval()
    with pytest.raises(ValueError, match="evaluation"):
        lanes(torch.zeros(2, 1, 28, 28))
