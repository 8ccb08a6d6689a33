"""Networks in compact notation, in the manner of VGG's lists: "8 8 M 12 12 12 12 G".

docs/chain.md is the reference. In short, from the image on:

    12        3x3 convolution to 12 channels, no padding, no bias; batch norm; ReLU
    12,k1     the same with a 1x1 kernel       12,p1   with padding 1      12,s2  with stride 2
    12,d      depthwise: each output channel sees one input channel
    12,r      residual: the input is added to the output, where both have one shape
    12,o0.1   followed by dropout of 10 %
    M M3      max-pool over 2x2 (3x3), stride the same       A A3    average pool
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
_MOST = 4096  # channels, kernel side, padding, stride: a slip of the keyboard is no network
_MOST_TOKENS = 1000
_MOST_PARAMS = 1 << 25  # checked before any are made


@dataclass(frozen=True, slots=True)
class Convolution:
    """One convolution with its batch norm and ReLU, as its token says it."""

    channels: int
    kernel: int = 3
    padding: int = 0
    stride: int = 1
    depthwise: bool = False
    residual: bool = False
    dropout: float = 0.0


@dataclass(frozen=True, slots=True)
class Pool:
    """Max-pool (M) or average pool (A) with a stride equal to its side."""

    kind: str
    side: int


@dataclass(frozen=True, slots=True)
class Head:
    """What gives the class scores: G or F."""

    kind: str


Step = Convolution | Pool | Head


class Residual(nn.Module):
    """A block whose input is added to its output."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """The shape of x."""
        out: Tensor = self.block(x) + x
        return out


def parse_chain(text: str) -> tuple[Step, ...]:
    """The steps that a chain names, the head last.

    Raises:
        ConfigError: a token that is wrong, with a mark below it.

    >>> parse_chain("8,s2 M G")
    (Convolution(channels=8, kernel=3, padding=0, stride=2, depthwise=False, residual=False, \
dropout=0.0), Pool(kind='M', side=2), Head(kind='G'))
    """
    tokens = text.split()
    if not tokens:
        raise ConfigError('model.chain is empty; a small one is "8 8 M 12 12 G".')
    if len(tokens) > _MOST_TOKENS:
        raise _at(text, _MOST_TOKENS, f"a chain has at most {_MOST_TOKENS:,} tokens")
    steps = []
    for number, token in enumerate(tokens):
        try:
            steps.append(_parse_token(token))
        except ValueError as error:
            raise _at(text, number, str(error)) from None
    for number, (step, following) in enumerate(pairwise([*steps, None])):
        if isinstance(step, Head) and following is not None:
            raise _at(text, number + 1, f"nothing can follow {step.kind}, which gives the classes")
    if not isinstance(steps[-1], Head):
        raise _at(text, len(tokens) - 1, "the last token must be G or F, which give the classes")
    return tuple(steps)


def build_chain(text: str, input_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """The network that `text` names, from images (channels, height, width) to logits.

    Raises:
        ConfigError: a wrong token, or one that does not fit where it stands or brings more
            parameters than a small network has, with a mark below it.
    """
    channels, *size = input_shape
    params = 0
    layers: list[nn.Module] = []
    for number, step in enumerate(parse_chain(text)):
        try:
            if isinstance(step, Convolution):
                size = _slide(size, step.kernel, step.stride, step.padding)
                inputs = 1 if step.depthwise else channels
                params = _more(params, (inputs * step.kernel**2 + 2) * step.channels)
                layers.append(_block(step, channels))
                channels = step.channels
            elif isinstance(step, Pool):
                size = _slide(size, step.side, step.side, 0)
                layers.append(_POOLS[step.kind](step.side))
            else:
                inputs = channels * (size[0] * size[1] if step.kind == "F" else 1)
                params = _more(params, (inputs + 1) * num_classes)
                layers += _head(step, channels, size, num_classes)
        except ValueError as error:
            raise _at(text, number, str(error)) from None
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
            raise ValueError(f"unknown suffix {suffix!r}; known are {known}")
        if letter in given:
            raise ValueError(f"suffix {letter} is there twice")
        if letter in "dr" and value:
            raise ValueError(f"suffix {letter} takes no value, and {suffix!r} has one")
        given[letter] = value
    return Convolution(
        channels=_bounded(word, at_least=1),
        kernel=_bounded(given.get("k", "3"), at_least=1),
        padding=_bounded(given.get("p", "0"), at_least=0),
        stride=_bounded(given.get("s", "1"), at_least=1),
        depthwise="d" in given,
        residual="r" in given,
        dropout=_share(given.get("o", "0")),
    )


def _bounded(digits: str, at_least: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", digits) or not at_least <= int(digits) <= _MOST:
        raise ValueError(f"{digits or 'nothing'!r} should be a number from {at_least} to {_MOST}")
    return int(digits)


def _share(text: str) -> float:
    if not re.fullmatch(r"0|0?\.[0-9]{1,9}", text):
        raise ValueError(f"dropout {text!r} should be a share below 1, such as 0.1")
    return float(text)


def _more(params: int, added: int) -> int:
    if params + added > _MOST_PARAMS:
        raise ValueError(f"the network has more than {_MOST_PARAMS:,} parameters up to here")
    return params + added


def _slide(size: list[int], kernel: int, stride: int, padding: int) -> list[int]:
    if any(side + 2 * padding < kernel for side in size):
        have = "x".join(str(side + 2 * padding) for side in size)
        raise ValueError(f"a window of {kernel}x{kernel} does not fit into {have}")
    return [(side + 2 * padding - kernel) // stride + 1 for side in size]


def _block(step: Convolution, inputs: int) -> nn.Module:
    if step.depthwise and step.channels % inputs:
        raise ValueError(f"depthwise on {inputs} channels gives {inputs} or a multiple of it")
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
            f"a residual step keeps its shape: {inputs} channels here, stride 1 and padding "
            f"{(step.kernel - 1) // 2} for an odd kernel of {step.kernel}"
        )
    return Residual(block)


def _head(step: Head, channels: int, size: list[int], num_classes: int) -> list[nn.Module]:
    if step.kind == "G":
        return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)]
    return [nn.Flatten(), nn.Linear(channels * size[0] * size[1], num_classes)]


def _at(text: str, number: int, message: str) -> ConfigError:
    """The error for token `number` of `text`, with a mark below it."""
    start, end = [match.span() for match in re.finditer(r"\S+", text)][number]
    line = re.sub(r"\s", " ", text)
    return ConfigError(
        f"model.chain, token {number + 1}, {text[start:end]!r}: {message}.\n"
        f"    {line}\n    {' ' * start}{'^' * (end - start)}"
    )
