"""Layers with their windows: what the rows of a receptive field table and of a list state."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from smidgen.record import Pair

# How the field names what is stated of a layer, without "size", "shape" and the like.
_COLUMNS = {
    "operation": "operation op type layertype layer name layername network",
    "kernel": "kernel k filtersize",
    "stride": "stride s",
    "padding": "padding pad p",
    "dilation": "dilation d",
    "size_in": "input inputimage inputfeaturemap inputresolution inputdim nin",
    "size_out": "output outputimage outputfeaturemap outputresolution outputdim nout",
    "channels_in": "inputchannel inchannel channelin inputfilter cin",
    "channels_out": "outputchannel outchannel channelout outputfilter cout",
    "params": "param parameter parametercount paramcount",
    "rf_in": "rfin rin receptivefieldin inputrf rfinput inputreceptivefield",
    "rf_out": "rfout rout receptivefieldout rf receptivefield outputrf rfoutput globalrf",
    "jump_in": "jumpin jin inputjump jumpinput",
    "jump_out": "jumpout jout outputjump jumpoutput",
}
_COLUMN_OF = {name: column for column, names in _COLUMNS.items() for name in names.split()}
_NO_NAME = re.compile(r"^(?:numberof|noof|num)|(?:sizes?|shapes?|dimensions?)$")
_SIZE = re.compile(
    r"[\[(]?\s*(?:(?:-1|None)\s*,\s*)?([0-9]{1,6})(?:\s*[x\u00d7*,]\s*([0-9]{1,6}))?"
    r"(?:\s*[x\u00d7*,]\s*([0-9]{1,6}))?"
    r"\s*[\])]?(?:\s*(?:pixels?|px|channels?|filters?))?",
    re.IGNORECASE,
)
_COUNT = re.compile(r"([0-9]{1,3}(?:[,_][0-9]{3}){1,4}|[0-9]{1,12})(?:\s*param(?:eter)?s)?", re.I)
_NO_PADDING = ("none", "no", "valid")
_WINDOW = re.compile(r"conv|pool", re.IGNORECASE)
_UNKNOWN = re.compile(
    r"transpose|upsampl|deconv|unpool|inception|residual|separable|\bblock", re.IGNORECASE
)
_STEPS = re.compile(r"->|=>|[+,;/&\u2192]|\band\b|\bthen\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Row:
    """What a page states of one layer."""

    line: int
    """Of the row or heading, from 1."""
    name: str
    """Empty if it has none."""
    operation: str
    """Its type; empty if it is not stated."""
    values: dict[str, Pair]
    """By the columns kernel, stride, padding, dilation, size_in, size_out, rf_in, and so on."""
    lines: Mapping[str, int] = field(default_factory=dict)
    """Of the columns that have a line to themselves."""
    same: bool = False
    """Whether its padding is stated as "same"."""
    listed: bool = False
    """Whether it stands in a list, which may leave out the stride or the padding."""
    after_gap: bool = False
    """Whether layers are missing before it."""

    @property
    def has_unknown_window(self) -> bool:
        """Whether its operation is several windows, or of a kind that is computed otherwise."""
        steps = [step for step in _STEPS.split(self.operation) if _WINDOW.search(step)]
        repeated = re.search(
            r"\b[x\u00d7]\s*[2-9]\b|\b[2-9]\s*[x\u00d7](?=\s*conv)", self.operation
        )
        return len(steps) > 1 or bool(_UNKNOWN.search(self.operation) or repeated)

    def stated(self, quantity: str, end: str) -> Pair | None:
        """What it states of its input ("in") or output ("out"), channels also as part of a size."""
        value = self.values.get(f"{quantity}_{end}")
        return value or (
            self.values.get(f"size_{end}_channels") if quantity == "channels" else None
        )

    def is_a(self, kind: str) -> bool:
        """Whether its operation has a word such as "pool" in it."""
        return re.search(kind, self.operation, re.IGNORECASE) is not None


def column_of(name: str) -> str | None:
    """The column that `name` stands for.

    >>> column_of("Input Channel size"), column_of("Output dimensions"), column_of("Strides")
    ('channels_in', 'size_out', 'stride')
    """
    letters = re.sub(r"[^a-z]", "", name.lower())
    candidates = (letters, _NO_NAME.sub("", letters), _NO_NAME.sub("", letters).removesuffix("s"))
    return next((_COLUMN_OF[c] for c in candidates if c in _COLUMN_OF), None)


def read_value(column: str, text: str) -> dict[str, Pair] | None:
    """What `text` states in a column: sizes as (vertical, horizontal), and channels with them.

    None if it cannot be read.

    >>> read_value("size_in", "28x28x1")
    {'size_in': (28, 28), 'size_in_channels': (1, 1)}
    >>> read_value("kernel", "as above")
    """
    if column == "params":
        found = _COUNT.fullmatch(text)
        count = int(re.sub("[,_]", "", found[1])) if found else 0
        return {column: (count, count)} if found else None
    if column == "padding" and text.lower() in _NO_PADDING:
        return {column: (0, 0)}
    if (found := _SIZE.fullmatch(text)) is None:
        return None
    sizes = [int(size) for size in found.groups() if size]
    if len(sizes) == 1:
        return {column: (sizes[0], sizes[0])}
    if len(sizes) == 2 or column == "kernel":  # perhaps with channels behind
        return {column: (sizes[0], sizes[1])} if not column.startswith("channels") else None
    if sizes[1] == sizes[2]:  # channels first
        sizes = [sizes[1], sizes[2], sizes[0]]
    if sizes[0] != sizes[1] or not column.startswith("size"):
        return None
    return {column: (sizes[0], sizes[1]), f"{column}_channels": (sizes[2], sizes[2])}
