"""The budget compared with a network, with flash and RAM estimated where they are limited."""

from torch import nn

from smidgen.budget import Budget, Verdict
from smidgen.record import Profile


def judge(
    budget: Budget,
    network: nn.Module,
    profile: Profile,
    *,
    epochs: int | None,
    accuracy: float | None = None,
) -> Verdict:
    """The verdict on a network, trained or not; `accuracy` is judged if given.

    Raises:
        ModelError: flash or RAM is limited, and the network has a layer that cannot be exported.
    """
    flash_bytes = ram_bytes = None
    if budget.limits_target and budget.target is not None:
        from smidgen.exporters.targets import estimate  # takes a second to import

        channels, height, width = profile.input_shape
        flash_bytes, ram_bytes = estimate(
            network, (channels, height, width), budget.target, budget.weight_bits
        )
    return budget.check(
        profile, epochs=epochs, accuracy=accuracy, flash_bytes=flash_bytes, ram_bytes=ram_bytes
    )
