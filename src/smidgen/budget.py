"""Limits on a network and its training, and the verdict on a measured network. Needs no torch."""

import dataclasses
import html
import textwrap
from dataclasses import dataclass
from typing import Any, Literal

from smidgen._storage.schema import described, option
from smidgen.errors import ConfigError, require
from smidgen.formatting import html_table, percent, plain_table

_NAMES = {
    "max_params": "parameters",
    "max_epochs": "epochs",
    "min_accuracy": "test accuracy",
    "max_macs": "multiply-adds",
    "max_weight_bytes": "weight bytes",
    "max_activation_bytes": "activation bytes",
    "max_flash_bytes": "flash bytes, estimated",
    "max_ram_bytes": "RAM bytes, estimated",
}
_PROFILED = {
    "max_params": "num_params",
    "max_macs": "macs",
    "max_weight_bytes": "weight_bytes",
    "max_activation_bytes": "peak_activation_bytes",
}
"""The attributes of a profile that limits are about."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitVerdict:
    """One limit of a budget, the measured value, and whether it passed."""

    limit: str
    """The name of the budget's field, such as max_params."""
    bound: float
    """The limit itself, in the unit of the budget's field."""
    value: float
    """The measured value, in the same unit."""
    passed: bool
    """Whether the value is within the limit; a value equal to it is."""

    def __post_init__(self) -> None:
        if self.limit not in _NAMES:
            raise ValueError(f"it has the limit {self.limit!r}; there are {', '.join(_NAMES)}.")

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The limit's name, what is allowed, what was measured, and pass or FAIL, as text.

        >>> LimitVerdict(limit="max_params", bound=7999, value=8012, passed=False).cells
        ('parameters', 'at most 7,999', '8,012', 'FAIL')
        """
        side = "at least" if self.limit.startswith("min_") else "at most"
        show = percent if self.limit == "min_accuracy" else "{:,.0f}".format
        allowed = f"{side} {show(self.bound)}"
        return _NAMES[self.limit], allowed, show(self.value), "pass" if self.passed else "FAIL"


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a budget says of a network: one entry for each limit that could be judged."""

    limits: tuple[LimitVerdict, ...]
    """In the order of the budget's fields."""

    HEADER = ("limit", "allowed", "measured", "verdict")
    """Names the columns of `rows`."""

    @property
    def passed(self) -> bool:
        """Whether every limit passed."""
        return all(limit.passed for limit in self.limits)

    @property
    def status(self) -> str:
        """The verdict in a few words.

        >>> Verdict(limits=()).status
        'no limits to judge'
        """
        if not self.limits:
            return "no limits to judge"
        return "inside the budget" if self.passed else "NOT inside the budget"

    @property
    def rows(self) -> list[tuple[str, str, str, str]]:
        """The cells of a table with a row for each limit."""
        return [limit.cells for limit in self.limits]

    def __str__(self) -> str:
        heading = f"verdict: {self.status}"
        if not self.limits:
            return heading
        return f"{heading}\n{textwrap.indent(plain_table(self.rows, '<<><'), '  ')}"

    def _repr_html_(self) -> str:
        """The verdict as a table, for notebooks."""
        heading = f"<p>verdict: <strong>{html.escape(self.status)}</strong></p>"
        return heading + (html_table(self.HEADER, self.rows) if self.limits else "")


@described("budget")
class Budget:
    """Limits on a network and its training; None: no limit."""

    max_params: int | None = option(
        "Parameters, trainable or not.", default=None, within="[1, inf)"
    )
    max_epochs: int | None = option(
        "Passes over the training images.", default=None, within="[1, inf)"
    )
    min_accuracy: float | None = option(
        "Accuracy on the test split after the last epoch.",
        default=None,
        within="[0, 1]",
        unit="a fraction; 99.4 % is 0.994",
    )
    max_macs: int | None = option("Multiply-adds for one image.", default=None, within="[1, inf)")
    max_weight_bytes: int | None = option(
        "Parameters and buffers as stored.", default=None, within="[1, inf)", unit="bytes"
    )
    max_activation_bytes: int | None = option(
        "Peak of the activations for one image at inference.",
        default=None,
        within="[1, inf)",
        unit="bytes",
    )
    max_flash_bytes: int | None = option(
        "Code, weights and tables of the exported C on the target, estimated within 5 %.",
        default=None,
        within="[1, inf)",
        unit="bytes",
    )
    max_ram_bytes: int | None = option(
        "Working memory and stack of the exported C on the target, without the image, estimated "
        "within 5 %.",
        default=None,
        within="[1, inf)",
        unit="bytes",
    )
    target: Literal["cortex-m0", "atmega328p", "rv32i"] | None = option(
        "The microcontroller that max_flash_bytes and max_ram_bytes are about.", default=None
    )
    weight_bits: int = option(
        "Of a weight in exported integer networks, for the estimates too: 8, 4 or 2.", default=8
    )

    def __post_init__(self) -> None:
        require(
            self.target is not None or not self.limits_target,
            "budget.max_flash_bytes and budget.max_ram_bytes need budget.target: cortex-m0, "
            "atmega328p or rv32i.",
        )
        require(
            self.weight_bits in (8, 4, 2),
            f"budget.weight_bits is {self.weight_bits}; it must be 8, 4 or 2.",
        )

    @property
    def limits_target(self) -> bool:
        """Whether flash or RAM of the target is limited."""
        return self.max_flash_bytes is not None or self.max_ram_bytes is not None

    def check(
        self,
        network: Any,
        *,
        epochs: int | None = None,
        accuracy: float | None = None,
        flash_bytes: int | None = None,
        ram_bytes: int | None = None,
    ) -> Verdict:
        """Judge every limit that is set and whose value is known.

        `network` is a profile; a torch module will do if only its parameters are limited (shared
        ones count once). `epochs`, `accuracy` (on the test set after the last epoch, a fraction),
        `flash_bytes` and `ram_bytes` are judged if given. A value equal to its limit passes.

        Raises:
            ConfigError: `network` is neither, or has lazy layers, or a limit needs a profile.
        """
        values: dict[str, float | None] = {
            "max_epochs": epochs,
            "min_accuracy": accuracy,
            "max_flash_bytes": flash_bytes,
            "max_ram_bytes": ram_bytes,
        }
        values |= self._measure(network)
        limits = []
        for field in dataclasses.fields(self):
            bound, value = getattr(self, field.name), values.get(field.name)
            if bound is not None and value is not None:
                passed = value >= bound if field.name.startswith("min_") else value <= bound
                limits.append(
                    LimitVerdict(limit=field.name, bound=bound, value=value, passed=passed)
                )
        return Verdict(limits=tuple(limits))

    def _measure(self, network: Any) -> dict[str, float | None]:
        if all(hasattr(network, name) for name in _PROFILED.values()):
            return {limit: getattr(network, name) for limit, name in _PROFILED.items()}
        if not hasattr(network, "parameters"):
            raise ConfigError(
                f"a budget checks a profile or a torch module, not a {type(network).__name__}."
            )
        for limit in _PROFILED:
            if limit != "max_params" and getattr(self, limit) is not None:
                raise ConfigError(
                    f"budget.{limit} needs a profile: pass smidgen.profile(network, input_shape) "
                    "instead of the network."
                )
        parameters = list(network.parameters())  # torch lists a shared one once
        if any(hasattr(parameter, "materialize") for parameter in parameters):
            raise ConfigError(
                "the network has lazy layers, whose parameters are not known yet; call it once on "
                "an image, then check it."
            )
        return {"max_params": sum(parameter.numel() for parameter in parameters)}
