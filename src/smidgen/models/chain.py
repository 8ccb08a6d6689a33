"""Networks in chain notation, like VGG's configuration lists: "8 8 M 12 12 12 12 G".

docs/chain.md is the reference. In short, from the image to the classes:

    12        3x3 convolution to 12 channels, no padding, no bias; batch norm; ReLU
    12,k1     the same with a 1x1 kernel       12,p1   with padding 1      12,s2  with stride 2
    12,d      depthwise: each output channel depends on one input channel
    12,r      residual: the input is added to the output, which has the same shape
    12,o0.1   dropout of 10 % after it
    M M3      max-pool of 2x2 (3x3), same stride             A A3    average pool
    G         last: global average pool, linear layer to the classes
    F         last: flatten, linear layer to the classes
"""

import re
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from smidgen.errors import ConfigError

SUFFIXES = {
    "k": "kernel, as in 12,k1",
    "p": "padding, as in 12,p1",
    "s": "stride, as in 12,s2",
    "d": "depthwise",
    "r": "residual",
    "o": "dropout, as in 12,o0.1",
}
_POOLS: dict[str, type[nn.MaxPool2d] | type[nn.AvgPool2d]] = {"M": nn.MaxPool2d, "A": nn.AvgPool2d}
_MAX_VALUE = 4096  # of channels, kernel, padding and stride; more is a typing error
_MAX_TOKENS = 1000
_MAX_PARAMS = 1 << 25  # checked before any layer is made


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution with its batch norm and ReLU."""

    channels: int
    kernel: int = 3
    padding: int = 0
    stride: int = 1
    depthwise: bool = False
    residual: bool = False
    dropout: float = 0.0


@dataclass(frozen=True, slots=True)
class Pool:
    """A max-pool (M) or average pool (A) whose stride equals its side."""

    kind: str
    side: int


@dataclass(frozen=True, slots=True)
class Head:
    """The last token, which gives the class scores: G or F."""

    kind: str


Step = Convolution | Pool | Head


class Residual(nn.Module):
    """A block with its input added to its output."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor with the shape of `x`."""
        out: Tensor = self.block(x) + x
        return out


def parse_chain(text: str) -> tuple[Step, ...]:
    """Parse a chain into its steps, the head last.

    Raises:
        ConfigError: a token is invalid; the message marks it.

    >>> parse_chain("8,s2 M G")
    (Convolution(channels=8, kernel=3, padding=0, stride=2, depthwise=False, residual=False, \
dropout=0.0), Pool(kind='M', side=2), Head(kind='G'))
    """
    tokens = text.split()
    if not tokens:
        raise ConfigError('model.chain is empty; write for example "8 8 M 12 12 G".')
    if len(tokens) > _MAX_TOKENS:
        raise _token_error(text, _MAX_TOKENS, f"a chain has at most {_MAX_TOKENS:,} tokens")
    steps = []
    for number, token in enumerate(tokens):
        try:
            steps.append(_parse_token(token))
        except ValueError as error:
            raise _token_error(text, number, str(error)) from None
    for number, (step, following) in enumerate(pairwise([*steps, None])):
        if isinstance(step, Head) and following is not None:
            raise _token_error(text, number + 1, f"{step.kind} must be the last token")
    if not isinstance(steps[-1], Head):
        raise _token_error(text, len(tokens) - 1, "the last token must be G or F")
    return tuple(steps)


def build_chain(text: str, input_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """Build the network that `text` describes: (batch, *input_shape) to logits (batch, classes).

    Raises:
        ConfigError: a token is invalid, does not fit the output of the one before, or exceeds the
            limit on parameters; the message marks it.
    """
    channels, *size = input_shape
    params = 0
    layers: list[nn.Module] = []
    for number, step in enumerate(parse_chain(text)):
        try:
            if isinstance(step, Convolution):
                size = _output_size(size, step.kernel, step.stride, step.padding)
                inputs = 1 if step.depthwise else channels
                params = _add_params(params, (inputs * step.kernel**2 + 2) * step.channels)
                layers.append(_block(step, channels))
                channels = step.channels
            elif isinstance(step, Pool):
                size = _output_size(size, step.side, step.side, 0)
                layers.append(_POOLS[step.kind](step.side))
            else:
                inputs = channels * (size[0] * size[1] if step.kind == "F" else 1)
                params = _add_params(params, (inputs + 1) * num_classes)
                layers += _head(step, channels, size, num_classes)
        except ValueError as error:
            raise _token_error(text, number, str(error)) from None
    return nn.Sequential(*layers)


def _parse_token(token: str) -> Step:
    if token in ("G", "F"):
        return Head(token)
    if pool := re.fullmatch(r"([MA])(\d*)", token):
        return Pool(pool[1], _bounded(pool[2] or "2", at_least=1))
    word, *suffixes = token.split(",")
    if not re.fullmatch(r"\d+", word):
        raise ValueError("a token is a number of channels, M, A, G or F")
    given: dict[str, str] = {}
    for suffix in suffixes:
        letter, value = suffix[:1], suffix[1:]
        if letter not in SUFFIXES:
            known = "; ".join(f"{key}: {meaning}" for key, meaning in SUFFIXES.items())
            raise ValueError(f"unknown suffix {suffix!r}; suffixes are {known}")
        if letter in given:
            raise ValueError(f"suffix {letter} is given twice")
        if letter in "dr" and value:
            raise ValueError(f"suffix {letter} takes no value, got {suffix!r}")
        given[letter] = value
    return Convolution(
        channels=_bounded(word, at_least=1),
        kernel=_bounded(given.get("k", "3"), at_least=1),
        padding=_bounded(given.get("p", "0"), at_least=0),
        stride=_bounded(given.get("s", "1"), at_least=1),
        depthwise="d" in given,
        residual="r" in given,
        dropout=_dropout(given.get("o", "0")),
    )


def _bounded(digits: str, at_least: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", digits) or not at_least <= int(digits) <= _MAX_VALUE:
        raise ValueError(f"expected a number from {at_least} to {_MAX_VALUE}, got {digits!r}")
    return int(digits)


def _dropout(text: str) -> float:
    if not re.fullmatch(r"0|0?\.[0-9]{1,9}", text):
        raise ValueError(f"expected a dropout rate below 1, such as 0.1, got {text!r}")
    return float(text)


def _add_params(params: int, added: int) -> int:
    if params + added > _MAX_PARAMS:
        raise ValueError(f"the network has more than {_MAX_PARAMS:,} parameters by here")
    return params + added


def _output_size(size: list[int], kernel: int, stride: int, padding: int) -> list[int]:
    if any(side + 2 * padding < kernel for side in size):
        have = "x".join(str(side + 2 * padding) for side in size)
        raise ValueError(f"a window of {kernel}x{kernel} does not fit into {have}")
    return [(side + 2 * padding - kernel) // stride + 1 for side in size]


def _block(step: Convolution, inputs: int) -> nn.Module:
    if step.depthwise and step.channels % inputs:
        raise ValueError(f"a depthwise step has a multiple of its input's {inputs} channels")
    layers: list[nn.Module] = [
        nn.Conv2d(
            inputs,
            step.channels,
            step.kernel,
            stride=step.stride,
            padding=step.padding,
            groups=inputs if step.depthwise else 1,
            bias=False,
        ),
        nn.BatchNorm2d(step.channels),
        nn.ReLU(),
    ]
    if step.dropout:
        layers.append(nn.Dropout(step.dropout))
    block = nn.Sequential(*layers)
    if not step.residual:
        return block
    if step.channels != inputs or step.stride != 1 or 2 * step.padding != step.kernel - 1:
        raise ValueError(
            f"a residual step must keep its input's shape: {inputs} channels, stride 1 and padding "
            f"{(step.kernel - 1) // 2} for an odd kernel of {step.kernel}"
        )
    return Residual(block)


def _head(step: Head, channels: int, size: list[int], num_classes: int) -> list[nn.Module]:
    if step.kind == "G":
        return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)]
    return [nn.Flatten(), nn.Linear(channels * size[0] * size[1], num_classes)]


def _token_error(text: str, number: int, message: str) -> ConfigError:
    """The error for token `number` of `text`, from 0, with a mark below it."""
    start, end = [match.span() for match in re.finditer(r"\S+", text)][number]
    line = re.sub(r"\s", " ", text)
    return ConfigError(
        f"model.chain, token {number + 1}, {text[start:end]!r}: {message}.\n"
        f"    {line}\n    {' ' * start}{'^' * (end - start)}"
    )
