"""Pages that describe random networks, with each number marked so that one can be changed."""

import math
import re
from dataclasses import dataclass

from hypothesis import strategies as st


@dataclass(frozen=True)
class Layer:
    """A convolution, pool or linear layer, and what follows from it."""

    kind: str
    kernel: int
    stride: int
    padding: int
    bias: bool
    followers: tuple[str, ...]
    """Types that keep the shape, behind it."""
    channels: tuple[int, int]
    sizes: tuple[int, int]
    fields: tuple[int, int]
    jumps: tuple[int, int]

    @property
    def params(self) -> int:
        weights = self.channels[0] * self.channels[1] * self.kernel**2
        if self.kind == "Linear":
            weights = self.channels[0] * self.sizes[0] ** 2 * self.channels[1]
        return 0 if self.kind == "MaxPool2d" else weights + self.bias * self.channels[1]


@st.composite
def networks(draw: st.DrawFn) -> list[Layer]:
    """Three to eight convolutions and pools, then a linear layer."""
    size, channels = draw(st.sampled_from([(28, 1), (32, 3), (20, 1)]))
    field = jump = 1
    layers: list[Layer] = []
    for _ in range(draw(st.integers(3, 8))):
        pools = bool(layers) and size >= 4 and size % 2 == 0 and draw(st.booleans())
        kernel = 2 if pools else draw(st.sampled_from([k for k in (1, 3, 5) if k <= size]))
        stride = 2 if pools else draw(st.sampled_from([1, 1, 1, 2]))
        padding = 0 if pools else draw(st.integers(0, kernel // 2))
        wide = channels if pools else draw(st.integers(4, 40))
        after = (size + 2 * padding - kernel) // stride + 1
        layers.append(
            Layer(
                kind="MaxPool2d" if pools else "Conv2d",
                kernel=kernel,
                stride=stride,
                padding=padding,
                bias=draw(st.booleans()),
                followers=draw(st.sampled_from([(), ("ReLU",), ("BatchNorm2d", "ReLU")])),
                channels=(channels, wide),
                sizes=(size, after),
                fields=(field, field + (kernel - 1) * jump),
                jumps=(jump, jump * stride),
            )
        )
        size, channels = after, wide
        field, jump = layers[-1].fields[1], layers[-1].jumps[1]
    last = Layer(
        *("Linear", 1, 1, 0, draw(st.booleans()), (), (channels, 10)),
        *((size, 1), (field, field), (jump, jump)),
    )
    return [*layers, last]


def mark(value: int | str) -> str:
    """A number that `change` finds."""
    return f"⟦{value}⟧"


def unmarked(page: str) -> str:
    return re.sub("[⟦⟧]", "", page)


def change(page: str, index: int, by: int) -> tuple[str, int]:
    """The page with one marked number raised (3x3 on each side), and its line."""
    places = list(re.finditer("⟦([^⟧]*)⟧", page))
    place = places[index % len(places)]
    raised = re.sub("[0-9,]+", lambda number: str(int(number[0].replace(",", "")) + by), place[1])
    changed = page[: place.start()] + raised + page[place.end() :]
    return unmarked(changed), page[: place.start()].count("\n") + 1


Module = tuple[str, tuple[int, ...], int]
"""Type, shape and parameters, as a layer table states them."""


def modules(layers: list[Layer]) -> list[Module]:
    """A row for each layer and for what follows it."""
    found = []
    for layer in layers:
        shape = (layer.channels[1],) + (layer.sizes[1],) * 2 * (layer.kind != "Linear")
        found.append((layer.kind, shape, layer.params))
        for name in layer.followers:
            found.append((name, shape, 2 * shape[0] * (name == "BatchNorm2d")))
    return found


def torchsummary(modules: list[Module]) -> str:
    lines = [
        "```",
        "-" * 64,
        f"{'Layer (type)':>20} {'Output Shape':>25} {'Param #':>15}",
        "=" * 64,
    ]
    for number, (name, shape, params) in enumerate(modules, start=1):
        sizes = ", ".join(["-1", *map(mark, shape)])
        lines.append(f"{f'{name}-{number}':>20} {f'[{sizes}]':>25} {mark(f'{params:,}'):>15}")
    return "\n".join([*lines, "=" * 64, *_totals(modules), "-" * 64, "```"])


def torchinfo(modules: list[Module]) -> str:
    lines = ["```", "=" * 90, "Layer (type:depth-idx)      Output Shape      Param #", "=" * 90]
    lines.append("Net                         [1, 10]           --")
    for number, (name, shape, params) in enumerate(modules, start=1):
        count = mark(f"{params:,}") if params else "--"
        sizes = ", ".join(["1", *map(mark, shape)])
        lines.append(f"├─{f'{name}: 1-{number}':<26}{f'[{sizes}]':<30}{count}")
    return "\n".join([*lines, "=" * 90, *_totals(modules), "=" * 90, "```"])


def keras(modules: list[Module]) -> str:
    """As Keras prints a summary: channels last, four parameters for each normalized channel."""
    names = {
        "Conv2d": "Conv2D",
        "MaxPool2d": "MaxPooling2D",
        "BatchNorm2d": "BatchNormalization",
        "Linear": "Dense",
    }
    lines = [
        "```",
        "_" * 65,
        " Layer (type)                Output Shape              Param #",
        "=" * 65,
    ]
    total = 0
    for number, (name, shape, params) in enumerate(modules):
        if name == "Linear":
            features = math.prod(modules[number - 1][1])
            lines += [f" flatten (Flatten)      (None, {features})      0", ""]
        cells = [*map(mark, shape[1:]), mark(shape[0])]
        count = params * (2 if name == "BatchNorm2d" else 1)
        total += count
        named = f"{name.lower()}_{number} ({names.get(name, name)})"[:27]
        lines += [f" {named:<28}(None, {', '.join(cells)})   {mark(count)}", " " * 65]
    return "\n".join([*lines, "=" * 65, f"Total params: {mark(f'{total:,}')} (12.34 KB)", "```"])


def keras_3(modules: list[Module]) -> str:
    """As newer versions of Keras print the same."""
    lines = []
    for line in keras(modules).split("\n")[3:-1]:
        cells = re.fullmatch(r" (\w+ \(.*?) +(\(None.*\)) +(\S+)", line)
        lines += [f"│ {' │ '.join(cells.groups())} │", "├─────┼─────┼─────┤"] if cells else []
    total = re.search("Total.*", keras(modules))
    assert total is not None
    header = "┃ Layer (type)         ┃ Output Shape           ┃       Param # ┃"
    return "\n".join(["```", header, "┡━━━━━╇━━━━━╇━━━━━┩", *lines, f" {total[0]}", "```"])


def markdown(modules: list[Module]) -> str:
    lines = ["| # | Layer (type) | Output shape | Params |", "|---|:---|---:|---:|"]
    for number, (name, shape, params) in enumerate(modules, start=1):
        size = " x ".join(map(mark, shape)) if len(shape) == 3 else f"[-1, {mark(shape[0])}]"
        lines.append(f"| {number} | `{name}` | {size} | {mark(f'{params:,}')} |")
    total = sum(params for _, _, params in modules)
    return "\n".join([*lines, f"| | **Total** | | **{mark(f'{total:,}')}** |"])


def html(modules: list[Module]) -> str:
    lines = []
    for line in markdown(modules).split("\n"):
        cells = "".join(f"<td>{cell.strip(' *`')}</td>" for cell in line.strip("|").split("|"))
        lines.append(f"<tr>{cells}</tr>" if "---" not in line else "")
    return "\n".join(["<table>", *lines, "</table>"])


def receptive_fields(layers: list[Layer]) -> str:
    """A table in Markdown with every column."""
    lines = [
        "| Layer | Operation | Kernel | Stride | Padding | Input Size | Output Size | RF In "
        "| RF Out | Jump In | Jump Out |",
        "|---" * 11 + "|",
    ]
    for number, layer in enumerate(layers[:-1], start=1):
        cells = [str(number), layer.kind, mark(f"{layer.kernel}x{layer.kernel}")]
        cells += [mark(layer.stride), mark(layer.padding)]
        cells += [mark(f"{size}x{size}") for size in layer.sizes]
        cells += [mark(value) for value in (*layer.fields, *layer.jumps)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def tabs(layers: list[Layer]) -> str:
    """The same with tabs."""
    lines = receptive_fields(layers).split("\n")
    return "\n".join(line.strip("| ").replace(" | ", "\t") for line in (lines[0], *lines[2:]))


_HEADINGS = ("### Layer {}", "**Layer {}**", "{}. **Layer {}**", "Layer {}:", "<h3>Layer {}</h3>")
_ITEMS = (
    "- **{}**: {}",
    "* {}: {}",
    "- {} - {}",
    "   1. **{}:** {}",
    "<li><b>{}</b>: {}</li>",
    "* __{}__ = {}",
)


@st.composite
def lists(draw: st.DrawFn, layers: list[Layer]) -> str:
    """A heading and a list for each layer, in one of the spellings that pages have."""
    heading, item = draw(st.sampled_from(_HEADINGS)), draw(st.sampled_from(_ITEMS))
    cross = draw(st.sampled_from(["x", " x ", "\u00d7", " X ", "*"]))
    with_channels, with_stride = draw(st.booleans()), draw(st.booleans())
    names = draw(
        st.sampled_from(
            [
                ("Network", "Kernel", "Input Channel size", "Input dimension"),
                ("Type", "Kernel size", "input channels", "Input size"),
                ("Operation", "kernel_size", "Number of input channels", "INPUT SHAPE"),
            ]
        )
    )
    text = []
    for number, layer in enumerate(layers[:-1], start=1):
        sizes = [f"{size}{cross}{size}" for size in layer.sizes]
        if with_channels:
            sizes = [f"{s}{cross}{c}" for s, c in zip(sizes, layer.channels, strict=True)]
        stated = {
            names[0]: " -> ".join([layer.kind, *layer.followers]),
            names[1]: mark(f"{layer.kernel}{cross}{layer.kernel}"),
            **({"Stride": mark(layer.stride)} if with_stride else {}),
            "Padding": mark(layer.padding),
            names[2]: mark(layer.channels[0]),
            re.sub("(?i)input", "Output", names[2]): mark(layer.channels[1]),
            names[3]: mark(sizes[0]),
            re.sub("(?i)input", "Output", names[3]): mark(sizes[1]),
        }
        text += [heading.format(number, number), ""]
        text += [*(item.format(key, value) for key, value in stated.items()), ""]
    return "\n".join(text)


TABLES = (torchsummary, torchinfo, keras, keras_3, markdown, html)
WINDOWS = (receptive_fields, tabs)


def _totals(modules: list[Module]) -> list[str]:
    total = sum(params for _, _, params in modules)
    return [
        f"Total params: {mark(f'{total:,}')}",
        f"Trainable params: {mark(f'{total:,}')}",
        f"Non-trainable params: {mark(0)}",
    ]
