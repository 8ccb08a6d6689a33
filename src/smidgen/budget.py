"""Budget against figures: the verdict."""

from smidgen.config import Budget
from smidgen.record import LimitVerdict, Profile, Verdict


def judge(
    budget: Budget,
    profile: Profile,
    epochs: int | None = None,
    accuracy: float | None = None,
) -> Verdict:
    """A line for every limit of `budget` that binds and whose figure is at hand.

    What the profile holds is always judged; `epochs` and `accuracy` (on the test set, after the
    last epoch, a fraction) where they are given. A figure equal to its limit is inside.
    """
    highest = {
        "max_params": profile.num_params,
        "max_macs": profile.macs,
        "max_weight_bytes": profile.weight_bytes,
        "max_activation_bytes": profile.peak_activation_bytes,
        "max_epochs": epochs,
    }
    limits = []
    for name, figure in highest.items():
        bound = getattr(budget, name)
        if bound is not None and figure is not None:
            limits.append(_limit(name, bound, figure, figure <= bound))
    bound = budget.min_accuracy
    if bound is not None and accuracy is not None:
        limits.append(_limit("min_accuracy", bound, accuracy, accuracy >= bound))
    return Verdict(limits=tuple(limits))


def _limit(name: str, bound: float, figure: float, passed: bool) -> LimitVerdict:
    return LimitVerdict(limit=name, bound=bound, figure=figure, passed=passed)
