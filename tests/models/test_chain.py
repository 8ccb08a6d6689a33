from dataclasses import dataclass

import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from torch import nn

from smidgen.errors import ConfigError
from smidgen.models.chain import Convolution, Head, Pool, Residual, build_chain, parse_chain

IMAGE = (1, 28, 28)


def num_params(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("chain", "params"),  # counted outside smidgen
    [
        ("8 8 M 12 12 12 12 G", 5_658),
        ("6 8 M 10 10 10 10 G", 4_124),
        ("8 12 M 16,p1 16 16 16 G", 9_914),
        ("8,s2,p1 12,p1 12,p1,r 12,p1,r M 12,p1,r 16 G", 6_866),
        ("16 8,k1 8 M 12 8,k1 12 12 12 G", 5_570),
        ("8 8,d 12,k1 M 12,d,p1 16,k1 16,d,p1 16,k1 16,d,p1 16,k1 16,d 16,k1 G", 2_214),
        ("8 8 M 8 8 M 16 16,k2 G", 4_274),
    ],
)
def test_known_chains_have_their_known_parameters(chain: str, params: int) -> None:
    network = build_chain(chain, IMAGE, 10)
    assert num_params(network) == params
    assert network(torch.zeros(2, *IMAGE)).shape == (2, 10)


def test_suffixes_and_pools_are_parsed() -> None:
    (step, pool, head) = parse_chain("12,k5,p2,s2,d,r,o0.25 A3 F")
    assert step == Convolution(12, 5, 2, 2, depthwise=True, residual=True, dropout=0.25)
    assert (pool, head) == (Pool("A", 3), Head("F"))


@pytest.mark.parametrize(
    ("chain", "sizes"),
    [
        ("4 4,s2 4,p1 G", [(26, 16), (12, 7), (12, 7)]),
        ("4,k1,p2 M A3 G", [(32, 22), (16, 11), (5, 3)]),
        ("4,k5,s3,p1 M1 G", [(9, 6), (9, 6)]),
        ("4,k3,p4 4,k1,s4 M2 F", [(34, 24), (9, 6), (4, 3)]),
    ],
)
def test_the_output_size_of_each_step(chain: str, sizes: list[tuple[int, int]]) -> None:
    image = torch.rand(1, 1, 28, 18)
    network = build_chain(chain, (1, 28, 18), 10).eval()
    found = [network[:end](image).shape[2:] for end in range(1, len(sizes) + 1)]
    assert [tuple(size) for size in found] == sizes
    assert network(image).shape == (1, 10)


@pytest.mark.parametrize(
    ("chain", "image"),
    [
        ("8 12,k5,p1 M 24,k3,d G", IMAGE),
        ("8 12,k5 M2 24,k3,d F", (3, 40, 28)),
        ("4 4,p1,r F", (1, 9, 6)),
        ("6 6 6,d G", IMAGE),
    ],
)
def test_the_limit_on_parameters(
    chain: str, image: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    count = num_params(build_chain(chain, image, 10))
    monkeypatch.setattr("smidgen.models.chain._MAX_PARAMS", count)
    build_chain(chain, image, 10)
    monkeypatch.setattr("smidgen.models.chain._MAX_PARAMS", count - 1)
    with pytest.raises(ConfigError, match=f"more than {count - 1:,} parameters by here"):
        build_chain(chain, image, 10)


def test_the_limit_on_tokens() -> None:
    assert len(parse_chain("M " * 999 + "G")) == 1000


def test_convolutions_have_no_bias() -> None:
    for module in build_chain("6 6,p1,r 12,d G", IMAGE, 10).modules():
        assert not isinstance(module, nn.Conv2d) or module.bias is None


def test_a_residual_step_adds_its_input() -> None:
    network = build_chain("4,p1 4,p1,r G", IMAGE, 10).eval()
    first, second = network[0], network[1]
    assert isinstance(second, Residual)
    x = torch.rand(1, *IMAGE)
    x = first(x)
    assert torch.equal(second(x), second.block(x) + x)


def test_dropout_and_depthwise_are_set_in_the_modules() -> None:
    network = build_chain("6,o0.2 12,d G", IMAGE, 10)
    drops = [m.p for m in network.modules() if isinstance(m, nn.Dropout)]
    groups = [m.groups for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert (drops, groups) == ([0.2], [1, 6])


def test_a_flatten_head_fits_other_image_shapes() -> None:
    network = build_chain("4 M F", (3, 32, 30), 7)
    assert network(torch.zeros(1, 3, 32, 30)).shape == (1, 7)
    assert network[-1].in_features == 4 * 15 * 14


@pytest.mark.parametrize(
    ("chain", "marked", "message"),
    [
        ("8 8 M 12,q3 G", "12,q3", "unknown suffix 'q3'; suffixes are k: kernel"),
        ("8,s2,x,d G", "8,s2,x,d", "stride, as in 12,s2; d: depthwise; r: residual; o: dropout"),
        ("8 X G", "X", ": a token is a number of channels, M, A, G or F[.]"),
        ("8 0 G", "0", "expected a number from 1 to 4096, got '0'"),
        ("8,k G", "8,k", "expected a number from 1 to 4096, got ''"),
        ("8,k3,k3 G", "8,k3,k3", "suffix k is given twice"),
        ("8,d2 G", "8,d2", "suffix d takes no value, got 'd2'"),
        ("8,o1.5 G", "8,o1.5", "expected a dropout rate below 1, such as 0.1, got '1.5'"),
        ("8 G 8", "8", "token 3, '8': G must be the last token"),
        ("8 8 12 G M G", "M", "token 5, 'M': G must be the last token"),
        ("8 8 12", "12", "token 3, '12': the last token must be G or F[.]"),
        ("8\t8,q\nG", "8,q", "token 2, '8,q': unknown suffix 'q'"),
        ("8 M0 G", "M0", "expected a number from 1 to 4096, got '0'"),
        ("8 4,k40,p5 G", "4,k40,p5", "a window of 40x40 does not fit into 36x36"),
        ("8 4,k31,p2 G", "4,k31,p2", "a window of 31x31 does not fit into 30x30"),
        ("8 M M M M M G", "M", "a window of 2x2 does not fit into 1x1"),
        ("8,k40 G", "8,k40", "a window of 40x40 does not fit into 28x28"),
        ("8 12,d G", "12,d", "a depthwise step has a multiple of its input's 8 channels"),
        ("8 8,r G", "8,r", "a residual step must keep its input's shape: 8 channels, stride 1"),
        ("8 12,p1,r G", "12,p1,r", "stride 1 and padding 1 for an odd kernel of 3"),
        ("8 8,k7,r G", "8,k7,r", "stride 1 and padding 3 for an odd kernel of 7"),
        ("8 8,k2,r G", "8,k2,r", "stride 1 and padding 0 for an odd kernel of 2"),
        ("8 8,p1,s2,r G", "8,p1,s2,r", "8 channels, stride 1 and padding 1 for an odd kernel"),
        ("99999 G", "99999", "expected a number from 1 to 4096, got '99999'"),
    ],
)
def test_the_invalid_token_is_marked(chain: str, marked: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build_chain(chain, IMAGE, 10)
    _, line, mark = str(caught.value).splitlines()
    start = mark.index("^")
    assert line[start : start + mark.count("^")] == marked


@pytest.mark.parametrize(
    ("chain", "marked", "message"),
    [
        ("4096,k4096,p4096 G", "4096,k4096,p4096", "more than 33,554,432 parameters by here"),
        ("4096,k1 4096 G", "4096", "more than 33,554,432 parameters by here"),
        ("4,p4096 4,p4096 4,k1 F", "F", "more than 33,554,432 parameters by here"),
        ("8 " + "8,k1 " * 1000 + "G", "8,k1", "a chain has at most 1,000 tokens"),
    ],
)
def test_a_network_over_the_limits_is_refused_before_it_is_built(
    chain: str, marked: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build_chain(chain, IMAGE, 10)
    _, line, mark = str(caught.value).splitlines()
    start = mark.index("^")
    assert line[start : start + mark.count("^")] == marked


def test_an_empty_chain_is_refused() -> None:
    message = r'^model\.chain is empty; write for example "8 8 M 12 12 G"\.$'
    with pytest.raises(ConfigError, match=message):
        build_chain("  ", IMAGE, 10)


@dataclass
class Drawn:
    """A valid chain, with the output shape of each of its steps."""

    tokens: list[str]
    outputs: list[tuple[int, int, int]]

    @property
    def text(self) -> str:
        return " ".join(self.tokens)


@st.composite
def chains(draw: st.DrawFn) -> Drawn:
    """Chains in which each token is drawn from those that fit the output of the one before."""
    drawn = Drawn([], [])
    channels, height, width = IMAGE
    for _ in range(draw(st.integers(1, 6))):
        side = min(height, width)
        if drawn.tokens and side >= 3 and draw(st.integers(0, 3)) == 0:
            pool = draw(st.sampled_from(["M", "A", "M3", "A2"]))
            step = int(pool[1:] or 2)
            height, width = height // step, width // step
            drawn.tokens.append(pool)
        elif draw(st.integers(0, 3)) == 0:
            kernel = draw(st.sampled_from([1, 3, 5]))
            suffixes = [f"k{kernel}", f"p{kernel // 2}", "r", *draw(st.sampled_from([[], ["d"]]))]
            drawn.tokens.append(",".join([str(channels), *suffixes]))
        else:
            padding, stride = draw(st.integers(0, 1)), draw(st.integers(1, 2))
            kernel = draw(st.integers(1, min(5, side + 2 * padding)))
            depthwise = draw(st.booleans())
            channels = channels * draw(st.integers(1, 2)) if depthwise else draw(st.integers(1, 8))
            height, width = (
                (size + 2 * padding - kernel) // stride + 1 for size in (height, width)
            )
            suffixes = [f"k{kernel}", f"p{padding}", f"s{stride}", *(["d"] if depthwise else [])]
            suffixes += draw(st.sampled_from([[], ["o0.1"], ["o.5"]]))
            drawn.tokens.append(",".join([str(channels), *draw(st.permutations(suffixes))]))
        drawn.outputs.append((channels, height, width))
    drawn.tokens.append(draw(st.sampled_from(["G", "F"])))
    return drawn


@settings(deadline=None)
@given(chains())
def test_a_valid_chain_is_built_with_the_sizes_of_its_steps(chain: Drawn) -> None:
    event(f"{sum(token[0].isdigit() for token in chain.tokens)} convolutions")
    network = build_chain(chain.text, IMAGE, 10).eval()
    x = torch.zeros(1, *IMAGE)
    for layer, shape in zip(network, chain.outputs, strict=False):
        x = layer(x)
        assert x.shape == (1, *shape)
    assert network[len(chain.outputs) :](x).shape == (1, 10)


def test_most_generated_chains_have_several_convolutions() -> None:
    counts = []

    @settings(max_examples=200, database=None, derandomize=True, deadline=None)
    @given(chains())
    def count(chain: Drawn) -> None:
        counts.append(sum(token[0].isdigit() for token in chain.tokens))

    count()
    assert sum(n >= 2 for n in counts) > len(counts) / 2


@settings(deadline=None)
@given(
    chains(),
    st.integers(0, 9),
    st.text("0123456789MAGFkpsdro,.", max_size=5),
    st.sampled_from("xZ-?\u00e9("),  # in no token
)
def test_an_invalid_token_anywhere_is_marked(
    chain: Drawn, number: int, valid: str, invalid: str
) -> None:
    number = min(number, len(chain.tokens) - 1)
    before, after = valid[: len(valid) // 2], valid[len(valid) // 2 :]
    chain.tokens[number] = f"{before}{invalid}{after}"
    with pytest.raises(ConfigError, match=rf"^model\.chain, token {number + 1}, ") as caught:
        parse_chain(chain.text)
    _, line, mark = str(caught.value).splitlines()
    assert line[mark.index("^") : len(mark)] == chain.tokens[number]
