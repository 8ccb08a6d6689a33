"""Budget against figures: the verdict. Needs no torch, so that any script can ask."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from smidgen.errors import ConfigError, require


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitVerdict:
    """One limit of a budget against its figure."""

    limit: str
    """The name of the budget's field."""
    bound: float
    figure: float
    passed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """A line for every limit that was judged."""

    limits: tuple[LimitVerdict, ...]

    @property
    def passed(self) -> bool:
        """Whether every limit is kept."""
        return all(limit.passed for limit in self.limits)


@runtime_checkable
class Profiled(Protocol):
    """What a profile tells of a network."""

    @property
    def num_params(self) -> int: ...  # noqa: D102
    @property
    def macs(self) -> int: ...  # noqa: D102
    @property
    def weight_bytes(self) -> int: ...  # noqa: D102
    @property
    def peak_activation_bytes(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """The limits. A limit that is left out does not bind."""

    max_params: int | None = None
    """Parameters, trainable or not."""
    max_epochs: int | None = None
    """Passes over the training images."""
    min_accuracy: float | None = None
    """Accuracy on the test set after the last epoch, a fraction."""
    max_macs: int | None = None
    """Multiply-adds for one image."""
    max_weight_bytes: int | None = None
    """Bytes of parameters and buffers as stored."""
    max_activation_bytes: int | None = None
    """Peak bytes of activations for one image at inference."""

    def __post_init__(self) -> None:
        for name in [f.name for f in dataclasses.fields(self) if f.name.startswith("max_")]:
            limit = getattr(self, name)
            require(
                limit is None or limit >= 1, f"budget.{name} is {limit}; it must be at least 1."
            )
        accuracy = self.min_accuracy
        require(
            accuracy is None or 0 <= accuracy <= 1,
            f"budget.min_accuracy is {accuracy}; it is a fraction from 0 to 1, so 99.4 % is 0.994.",
        )

    def check(
        self, network: Any, *, epochs: int | None = None, accuracy: float | None = None
    ) -> Verdict:
        """A line for every limit that binds and whose figure is at hand.

        `network` is a profile, or a torch module where only its parameters are limited: those that
        are shared count once. `epochs` and `accuracy` (on the test set after the last epoch, a
        fraction) are judged where they are given. A figure equal to its limit is inside.

        Raises:
            ConfigError: `network` is neither, or has lazy layers, or a limit needs a profile.
        """
        figures: dict[str, float | None] = {"max_epochs": epochs, "min_accuracy": accuracy}
        figures |= self._figures(network)
        limits = []
        for field in dataclasses.fields(self):
            bound, figure = getattr(self, field.name), figures.get(field.name)
            if bound is not None and figure is not None:
                passed = figure >= bound if field.name.startswith("min_") else figure <= bound
                limits.append(
                    LimitVerdict(limit=field.name, bound=bound, figure=figure, passed=passed)
                )
        return Verdict(limits=tuple(limits))

    def _figures(self, network: Any) -> dict[str, float | None]:
        if isinstance(network, Profiled):
            return {
                "max_params": network.num_params,
                "max_macs": network.macs,
                "max_weight_bytes": network.weight_bytes,
                "max_activation_bytes": network.peak_activation_bytes,
            }
        if not hasattr(network, "parameters"):
            raise ConfigError(
                f"a budget checks a profile or a torch module, not a {type(network).__name__}."
            )
        for name in ("max_macs", "max_weight_bytes", "max_activation_bytes"):
            if getattr(self, name) is not None:
                raise ConfigError(
                    f"budget.{name} needs a profile: give smidgen.profile(network, input_shape) "
                    "instead of the network."
                )
        parameters = list(network.parameters())  # torch lists a shared one once
        if any(hasattr(parameter, "materialize") for parameter in parameters):
            raise ConfigError(
                "the network has lazy layers, whose parameters are not known yet; call it once on "
                "an image, then check it."
            )
        return {"max_params": sum(parameter.numel() for parameter in parameters)}
