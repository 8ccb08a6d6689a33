import copy
import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels_oracle import (
    assert_same,
    by_kernels,
    by_torch,
    needs_compiler,
    passes_dropout,
    philox,
    tie_free_images,
)
from torch import Tensor, nn

from smidgen.errors import ModelError
from smidgen.kernels import NativeNetwork, Unsupported
from smidgen.kernels.autograd import _Network
from smidgen.kernels.build import check_fields, load_library
from smidgen.kernels.lowering import lower
from smidgen.models.chain import build_chain
from smidgen.models.reference import REFERENCE

pytestmark = needs_compiler

DEFAULT = "8 8 M 14 14 14 16 G"
WIDTHS = [
    (),
    pytest.param(("-mno-avx512f",), marks=pytest.mark.slow),
    pytest.param(("-DFORCED_VECTOR_WIDTH=8",), marks=pytest.mark.slow),
    pytest.param(("-DFORCED_VECTOR_WIDTH=4",), marks=pytest.mark.slow),
]
"""Compiler flags: this processor's vectors, and those of others."""


def native_network(
    network: nn.Module,
    shape: tuple[int, int, int],
    *,
    threads: int = 1,
    bfloat16: bool = False,
    flags: tuple[str, ...] = (),
) -> NativeNetwork:
    plan = lower(network, shape)
    return NativeNetwork(network, plan, threads=threads, bfloat16=bfloat16, flags=flags)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    network = make()
    for name, value in [*network.named_parameters(), *network.named_buffers()]:
        if value.ndim == 1:  # fresh batch norms and biases are all equal
            with torch.no_grad():
                value.add_(0.3 * torch.rand_like(value) if "running" not in name else 0.1)
    return network


def chain(text: str, shape: tuple[int, int, int] = (1, 28, 28)) -> nn.Module:
    return seeded(lambda: build_chain(text, shape, 10))


class WithoutNorm(nn.Module):
    """Biases, ReLU and pools without batch norm, as functions as well as layers."""

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
    """Additions: of the images, and before a ReLU; batch norm of vectors."""

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
def test_reference_networks_take_the_same_step_as_torch(name: str, flags: tuple[str, ...]) -> None:
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
def test_chains_take_the_same_step_as_torch(text: str, count: int, flags: tuple[str, ...]) -> None:
    network = chain(text, (3, 16, 19))
    images = tie_free_images(network, count, (3, 16, 19))
    assert_same(by_kernels(network, images, flags=flags), by_torch(network, images))


@pytest.mark.parametrize("flags", WIDTHS)
def test_other_modules_take_the_same_step_as_torch(flags: tuple[str, ...]) -> None:
    for make, shape in ((WithoutNorm, (3, 11, 14)), (Joined, (2, 6, 5))):
        network = seeded(make)
        images = tie_free_images(network, 19, shape)
        assert_same(by_kernels(network, images, flags=flags), by_torch(network, images))


@pytest.mark.parametrize("count", range(1, 41))
def test_batches_of_any_size_take_the_same_step_as_torch(count: int) -> None:
    network = chain("4 M 5 G", (1, 10, 11))
    images = tie_free_images(network, count, (1, 10, 11))
    assert_same(by_kernels(network, images), by_torch(network, images))


@st.composite
def fitting_chains(draw: st.DrawFn) -> tuple[str, tuple[int, int, int]]:
    """A chain of two to five layers before its head, and an image shape that it fits.

    The first two are convolutions: the gradient has to pass through one to reach the other.
    """
    shape = draw(st.tuples(st.integers(1, 3), st.integers(6, 14), st.integers(6, 14)))
    channels, height, width = shape
    tokens: list[str] = []
    pools = "A"
    for place in range(draw(st.integers(2, 5))):
        smaller = min(height, width)
        can_pool = smaller >= 2 and place >= 2
        kinds = ["plain", "plain", "depthwise", "residual"] + ["pool"] * can_pool
        kind = draw(st.sampled_from(kinds))
        if kind == "pool":
            side = draw(st.integers(2, min(3, smaller)))
            tokens.append(f"{draw(st.sampled_from(pools))}{side}")
            height, width = height // side, width // side
            continue
        # with few inputs for an output, zeros behind a ReLU become equal outputs: ties in a pool
        pools = "A"
        if kind == "residual":
            kernel = draw(st.sampled_from([1, 3, 5]))
            tokens.append(f"{channels},k{kernel},p{kernel // 2},r")
            continue
        kernel = draw(st.integers(1, min(5, smaller)))
        padding, stride = draw(st.integers(0, min(2, kernel - 1))), draw(st.integers(1, 3))
        if kind == "depthwise":
            channels *= draw(st.integers(1, 2)) if channels <= 10 else 1
        else:
            channels = draw(st.integers(1, 20))
            pools = "MA" if kernel >= 3 else "A"
        tokens.append(f"{channels},k{kernel},p{padding},s{stride}{',d' * (kind == 'depthwise')}")
        height, width = ((side + 2 * padding - kernel) // stride + 1 for side in (height, width))
    return " ".join([*tokens, draw(st.sampled_from("GF"))]), shape


def test_random_chains_take_the_same_step_as_torch() -> None:
    num_compared = 0

    @settings(max_examples=40, deadline=None)
    @given(case=fitting_chains(), count=st.integers(2, 20))
    def compare(case: tuple[str, tuple[int, int, int]], count: int) -> None:
        nonlocal num_compared
        text, shape = case
        network = chain(text, shape)
        images = tie_free_images(network, count, shape)
        float32, float64 = by_torch(network, images, torch.float32), by_torch(network, images)
        assert_same(by_kernels(network, images), float64, 1e-4, as_good_as=float32)
        assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) >= 2
        num_compared += 1

    compare()
    assert num_compared >= 40


def test_gradients_of_equal_maxima_and_of_relu_at_zero_are_torchs() -> None:
    first = nn.Conv2d(1, 4, 3)
    network = nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    images = torch.randint(-1, 2, (9, 1, 6, 6)).float()  # many equal sums
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


def test_several_steps_stay_close_to_torch() -> None:
    ours, theirs = chain(DEFAULT), chain(DEFAULT)
    counts = (32, 31, 64, 32, 17)
    native = native_network(ours, (1, 28, 28))
    assert train(ours, native, counts) == pytest.approx(train(theirs, theirs, counts), rel=1e-3)
    for name, value in theirs.state_dict().items():
        apart = (ours.state_dict()[name] - value).float().norm()
        assert apart <= 5e-3 * value.float().norm() + 1e-4, name


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("name", REFERENCE)
def test_the_same_seed_gives_the_same_bytes_for_any_number_of_threads(
    name: str, bfloat16: bool
) -> None:
    results = []
    for threads in (1, 1, 2, 3):
        network = seeded(REFERENCE[name])
        with skipped_without_bfloat16():
            native = native_network(network, (1, 28, 28), threads=threads, bfloat16=bfloat16)
        torch.manual_seed(8)
        results.append((train(network, native, (40, 39, 17, 40)), bytes_of(network)))
    assert all(result == results[0] for result in results)


def test_training_resumes_from_weights_and_generator_alone() -> None:
    network = seeded(REFERENCE["gap-6k"])
    torch.manual_seed(8)
    train(network, native_network(network, (1, 28, 28)), (24, 24))
    state, generator = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    ahead = train(network, native_network(network, (1, 28, 28)), (9, 33)), bytes_of(network)
    again = seeded(REFERENCE["gap-6k"])
    native = native_network(again, (1, 28, 28))
    again.load_state_dict(state, assign=True)  # at other addresses than before
    torch.set_rng_state(generator)
    assert (train(again, native, (9, 33)), bytes_of(again)) == ahead


def test_bfloat16_is_close_to_float32() -> None:
    network = chain(DEFAULT)
    images = torch.randn(64, 1, 28, 28)
    with skipped_without_bfloat16():
        ours = by_kernels(network, images, bfloat16=True)
    theirs = by_torch(network, images)
    assert (ours.scores - theirs.scores).norm() < 0.05 * theirs.scores.norm()
    flat = [torch.cat([g.flatten() for g in s.gradients.values()]) for s in (ours, theirs)]
    assert torch.cosine_similarity(flat[0], flat[1], 0) > 0.9
    assert (flat[0] - flat[1]).norm() > 0


class Masked(nn.Module):
    """Its scores for images of ones are the mask, scaled."""

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
    native = native_network(network, (1, 6, 6), flags=flags)
    masks = [native(torch.ones(67, 1, 6, 6)).detach() for _ in range(2)]
    for mask in masks:
        assert ((mask == 0) | ((mask * (1 - share) - 1).abs() < 1e-6)).all()
        assert (mask == 0).float().mean().item() == pytest.approx(share, abs=0.01)
    dropped = [(mask == 0).float() - share for mask in masks]
    spread = share * (1 - share)
    for one, other in (
        dropped,  # in two steps
        (dropped[0][1:], dropped[0][:-1]),  # of neighboring images
        (dropped[0][:, 1:], dropped[0][:, :-1]),  # of neighboring elements
        (dropped[0][:, 36:], dropped[0][:, :-36]),  # of neighboring channels
    ):
        assert (one * other).mean().item() / spread == pytest.approx(0, abs=0.03)


def test_dropout2d_drops_entire_channels() -> None:
    network = Masked(nn.Dropout2d(0.3))
    mask = native_network(network, (1, 6, 6))(torch.ones(200, 1, 6, 6)).detach().view(200, 20, 36)
    assert (mask == mask[:, :, :1]).all()
    assert (mask[:, :, 0] == 0).float().mean().item() == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # the known-answer tests of Random123 (kat_vectors, philox4x32 10)
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
@pytest.mark.parametrize("flags", WIDTHS)
def test_the_generator_gives_the_published_words(
    counter: tuple[int, ...], key: tuple[int, ...], words: tuple[int, ...], flags: tuple[str, ...]
) -> None:
    drawn = (ctypes.c_uint32 * 4)()
    load_library(flags).functions.smidgen_philox(
        (ctypes.c_uint32 * 4)(*counter), (ctypes.c_uint32 * 2)(*key), drawn
    )
    assert tuple(drawn) == words == tuple(philox(counter, key))


@pytest.mark.parametrize("flags", WIDTHS)
def test_masks_are_philox_of_image_element_and_operation(flags: tuple[str, ...]) -> None:
    network = chain("6,o0.25 M 7,o0.5 G", (1, 9, 9))
    native = native_network(network, (1, 9, 9), flags=flags)
    images = torch.randn(21, 1, 9, 9)
    torch.manual_seed(5)
    native(images)
    torch.manual_seed(5)
    seeds = torch.randint(0, 1 << 32, (2,), dtype=torch.int64).tolist()
    operations = [index for index, op in enumerate(native._plan.ops) if op.dropout]
    for index, mask, p in zip(operations, native.dropout_masks(), (0.25, 0.5), strict=True):
        flat = mask.flatten(1)
        for image in (0, 3, 20):
            expected = [
                passes_dropout(p, image, element, index, seeds) for element in range(flat.shape[1])
            ]
            assert flat[image].tolist() == expected


def test_masks_do_not_repeat_in_large_batches() -> None:
    network = Masked(nn.Dropout(0.5))
    native = native_network(network, (1, 6, 6))
    native(torch.ones(5000, 1, 6, 6))
    (mask,) = native.dropout_masks()
    flat = mask.flatten(1)
    assert len(torch.unique(flat, dim=0)) == len(flat)
    # earlier masks repeated with a shift: element e of image 4096 + k was element e + 1 of image k
    for shift in range(-4, 5):
        windows = flat[:, 4 + shift : flat.shape[1] - 4 + shift]
        together = torch.cat([flat[:, 4:-4], windows]) if shift else windows
        assert len(torch.unique(together, dim=0)) == len(together)


def test_too_little_memory_is_an_error_that_names_the_batch_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    native = native_network(chain(DEFAULT), (1, 28, 28))
    native(torch.randn(4, 1, 28, 28))
    images = torch.randn(400, 1, 28, 28)

    def fail(count: int) -> Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "zeros", fail)
        with pytest.raises(ModelError, match="batches of 400 images"):
            native(images)
    native(images)


def test_fields_that_differ_from_those_in_c_are_an_error() -> None:
    functions = load_library(()).functions

    class Swapped(ctypes.Structure):
        _fields_ = tuple(reversed(_Network._fields_))

    class Longer(ctypes.Structure):
        _fields_ = (*_Network._fields_, ("more", ctypes.c_void_p))

    check_fields(_Network, functions.smidgen_network_fields)
    for changed in (Swapped, Longer):
        with pytest.raises(AssertionError, match="differs from its declaration"):
            check_fields(changed, functions.smidgen_network_fields)


def test_dropped_values_get_no_gradient() -> None:
    """The sum of scores is linear in the first weights, so each gradient is a channel's sum."""
    for drop in (nn.Dropout(0.4), nn.Dropout2d(0.4), nn.Sequential(nn.ReLU(), nn.Dropout(0.4))):
        network = Masked(drop)
        scores = native_network(network, (1, 6, 6))(torch.rand(30, 1, 6, 6))
        torch.autograd.backward(scores.sum())
        gradient = network.spread.weight.grad
        assert gradient is not None
        each = scores.detach().view(30, 20, 36).sum((0, 2))
        torch.testing.assert_close(gradient.flatten(), each, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", REFERENCE)
def test_gradients_with_dropout_match_finite_differences(name: str) -> None:
    """The same seed gives the same masks, so the loss is a function of the weights."""
    network = seeded(REFERENCE[name])
    native = native_network(network, (1, 28, 28))
    images, labels = torch.randn(48, 1, 28, 28), torch.randint(0, 10, (48,))

    def loss() -> Tensor:
        torch.manual_seed(6)
        return F.cross_entropy(native(images), labels)

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


def test_memory_grows_only_with_the_largest_batch() -> None:
    network = chain(DEFAULT)
    native = native_network(network, (1, 28, 28))
    native(torch.randn(1024, 1, 28, 28))
    before = [tensor.data_ptr() for tensor in native._memory]
    for count in (3, 1024, 1009, 128):
        images = torch.randn(count, 1, 28, 28)
        torch.testing.assert_close(native(images), network(images), rtol=1e-3, atol=1e-4)
    assert [tensor.data_ptr() for tensor in native._memory] == before


def test_only_the_latest_batch_can_go_backward() -> None:
    network = chain(DEFAULT)
    native = native_network(network, (1, 28, 28))
    first = native(torch.randn(4, 1, 28, 28))
    native(torch.randn(4, 1, 28, 28))
    with pytest.raises(RuntimeError, match="another batch has overwritten"):
        torch.autograd.backward(first.sum())


def test_nan_reaches_the_scores() -> None:
    network = chain("4 M 4 G")
    native = native_network(network, (1, 28, 28))
    images = torch.randn(20, 1, 28, 28)
    images[3, 0, 5, 5] = float("nan")
    assert native(images).isnan().any()


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 1, 27, 28),
        torch.zeros(2, 1, 28, 28, dtype=torch.float64),
        torch.zeros(0, 1, 28, 28),
        torch.zeros(2, 1, 28, 28, requires_grad=True),
    ],
)
def test_unsuitable_images_are_errors(images: Tensor) -> None:
    native = native_network(chain(DEFAULT), (1, 28, 28))
    with pytest.raises(ValueError, match="expected"):
        native(images)


def test_one_value_per_channel_is_an_error_as_in_torch() -> None:
    network = chain("4 4 G", (1, 5, 5))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        network(torch.zeros(1, 1, 5, 5))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        native_network(network, (1, 5, 5))(torch.zeros(1, 1, 5, 5))


def test_evaluation_mode_is_an_error() -> None:
    network = chain(DEFAULT)
    native = native_network(network, (1, 28, 28))
    network.eval()
    with pytest.raises(ValueError, match="evaluation"):
        native(torch.zeros(2, 1, 28, 28))
