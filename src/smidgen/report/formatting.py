"""Figures as people read them: percentages with two decimals, thousands apart."""

from collections.abc import Sequence

from smidgen.budget import LimitVerdict, Verdict
from smidgen.record import Epoch, Evaluation, RunRecord, Times
from smidgen.stats import wilson_interval

_NAMES = {
    "max_params": "parameters",
    "max_epochs": "epochs",
    "min_accuracy": "test accuracy",
    "max_macs": "multiply-adds",
    "max_weight_bytes": "weight bytes",
    "max_activation_bytes": "activation bytes",
}


def percent(share: float) -> str:
    """A fraction as a percentage with two decimals.

    >>> percent(0.9946)
    '99.46 %'
    """
    return f"{100 * share:.2f} %"


def seconds(value: float) -> str:
    """A duration, to the second from ten seconds on.

    >>> seconds(4.21), seconds(83.4)
    ('4.2 s', '1 min 23 s')
    """
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def limit_cells(limit: LimitVerdict) -> tuple[str, str, str, str]:
    """What is limited, the limit, the figure, and pass or FAIL.

    >>> limit_cells(LimitVerdict(limit="max_params", bound=7999, figure=8012, passed=False))
    ('parameters', 'at most 7,999', '8,012', 'FAIL')
    """
    side = "at least" if limit.limit.startswith("min") else "at most"
    show = percent if limit.limit == "min_accuracy" else "{:,.0f}".format
    passed = "pass" if limit.passed else "FAIL"
    return _NAMES[limit.limit], f"{side} {show(limit.bound)}", show(limit.figure), passed


def verdict_text(verdict: Verdict) -> str:
    """A line for each limit, and one for all."""
    if not verdict.limits:
        return f"verdict: {verdict_words(verdict)}"
    rows = [limit_cells(limit) for limit in verdict.limits]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"  {name:<{widths[0]}}  {bound:<{widths[1]}}  {figure:>{widths[2]}}  {passed}"
        for name, bound, figure, passed in rows
    ]
    return "\n".join([f"verdict: {verdict_words(verdict)}", *lines])


def verdict_words(verdict: Verdict) -> str:
    """The whole verdict in a few words; nothing is kept where nothing is limited.

    >>> verdict_words(Verdict(limits=()))
    'no limits to judge'
    """
    if not verdict.limits:
        return "no limits to judge"
    return "inside the budget" if verdict.passed else "NOT inside the budget"


def verdict_heading(verdict: Verdict) -> str:
    """The same as the beginning of a sentence."""
    words = verdict_words(verdict)
    return words[0].upper() + words[1:]


def result_text(record: RunRecord, times: Times | None = None) -> str:
    """The run's result in a sentence, with the interval that one test set allows."""
    test = record.test
    low, high = wilson_interval(test.num_correct, test.num_images)
    took = f" Training took {seconds(times.train_seconds)}." if times else ""
    looks = "once" if record.test_looks == 1 else f"{record.test_looks} times"
    return (
        f"{percent(test.score.accuracy)} of {test.num_images:,} test images after epoch "
        f"{len(record.epochs)}, the last one ({percent(low)[:-2]} to {percent(high)} with 95 % "
        f"confidence), with {record.profile.num_params:,} parameters; the test set was scored "
        f"{looks}.{took}"
    )


def expected_calibration_error(evaluation: Evaluation) -> float:
    """Mean distance between confidence and accuracy over the bins, weighted by images, a fraction.

    (Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, 2017.)
    """
    gaps = (b.num_images * abs(b.confidence - b.accuracy) for b in evaluation.calibration)
    return sum(gaps) / evaluation.num_images


def first_epoch_at(epochs: Sequence[Epoch], target: float | None) -> int | None:
    """The first epoch whose validation accuracy is `target` or more; None where there is none."""
    if target is None:
        return None
    reached = (e.epoch for e in epochs if e.validation and e.validation.accuracy >= target)
    return next(reached, None)
