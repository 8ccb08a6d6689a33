"""Sentences about a run that follow from its record alone."""

from collections.abc import Sequence

from smidgen.formatting import counted, percent, seconds
from smidgen.record import Epoch, RunRecord, Times
from smidgen.stats import wilson_interval


def result_sentence(record: RunRecord, times: Times | None = None) -> str:
    """The run's result, with the confidence interval that one test set allows."""
    test = record.test
    low, high = wilson_interval(test.num_correct, test.num_images)
    took = f" Training took {seconds(times.train_seconds)}." if times and record.epochs else ""
    looks = "once" if record.test_looks == 1 else f"{record.test_looks} times"
    last = len(record.epochs)
    when = "" if record.trained_elsewhere else f" after epoch {last}, the last one"
    where = ", trained elsewhere" if record.trained_elsewhere else ""
    return (
        f"{percent(test.score.accuracy)} of {test.num_images:,} test images{when} "
        f"({percent(low)[:-2]} to {percent(high)} with 95 % "
        f"confidence), with {record.profile.num_params:,} parameters{where}; the test set "
        f"was scored {looks}.{took}"
    )


def data_sentence(record: RunRecord) -> str:
    """What the run was trained and validated on."""
    data = record.data
    if record.trained_elsewhere:
        return (
            f"Scored on {counted(data.num_test, 'image')} of {data.origin}. The network was "
            "trained elsewhere: what it was trained on, and how, is not known."
        )
    validation = f"; validated on {data.num_validation:,} others" if data.num_validation else ""
    return f"Trained on {counted(data.num_train, 'image')} of {data.origin}{validation}."


def provenance(record: RunRecord, times: Times | None = None) -> str:
    """Software, hardware and time of the run, and what it takes to get the same weights."""
    used = record.environment
    commit = f" at {used.commit[:12]}" if used.commit else ""
    sentences = [
        f"smidgen {used.smidgen}{commit}, Python {used.python}, torch {used.torch}; "
        f"{used.device}, {counted(used.threads, 'thread')}, {used.backend} backend; "
        f"{used.processor}; {used.platform}."
    ]
    if times:
        between = f", with {counted(times.stops, 'stop')} in between" if times.stops else ""
        took = seconds(times.total_seconds)
        sentences.append(f"Started {times.started}, took {took} in all{between}.")
    same = "The same build, device and number of threads give the same weights, byte for byte."
    if record.trained_elsewhere:
        same = "Trained elsewhere, so it cannot be trained again from this record."
    return " ".join([*sentences, *record.caveats, same])


def observations(record: RunRecord) -> list[str]:
    """Sentences on overfitting, the accuracy target, the parameters and the confused classes."""
    return [
        *([_observe_gap(record)] if record.epochs else []),
        *_observe_target(record),
        *_observe_parameters(record),
        _observe_confusion(record),
    ]


def first_epoch_at(epochs: Sequence[Epoch], target: float | None) -> int | None:
    """The first epoch with a validation accuracy of at least `target`; None if there is none."""
    if target is None:
        return None
    reached = (e.epoch for e in epochs if e.validation and e.validation.accuracy >= target)
    return next(reached, None)


def _observe_gap(record: RunRecord) -> str:
    last = record.epochs[-1]
    if last.validation is None:
        return "There is no validation split: the network was trained on all training images."
    gap = last.train.accuracy - last.validation.accuracy
    if gap > 0:
        meaning = "the network does better on its training images than on new ones"
    else:
        meaning = (
            "the network does not overfit (training accuracy is measured while the weights change, "
            "on augmented images and with dropout if the experiment uses them)"
        )
    return (
        f"After the last epoch, accuracy is {percent(last.train.accuracy)} in training and "
        f"{percent(last.validation.accuracy)} in validation, a gap of {100 * gap:+.2f} points: "
        f"{meaning}."
    )


def _observe_target(record: RunRecord) -> list[str]:
    target = record.experiment.budget.min_accuracy
    accuracies = [epoch.validation.accuracy for epoch in record.epochs if epoch.validation]
    if target is None or not accuracies:
        return []
    first = first_epoch_at(record.epochs, target)
    if first is None:
        best = percent(max(accuracies))
        return [f"Validation accuracy never reached {percent(target)}; the best was {best}."]
    return [f"Validation accuracy first reached {percent(target)} after epoch {first}."]


def _observe_parameters(record: RunRecord) -> list[str]:
    total = record.profile.num_params
    largest = sorted(record.profile.layers, key=lambda layer: -layer.params)[:3]
    shares = ", ".join(
        f"{layer.name} with {layer.params:,} ({layer.params / total:.0%})"
        for layer in largest
        if layer.params
    )
    return [f"Most of the {total:,} parameters are in {shares}."] if shares else []


def _observe_confusion(record: RunRecord, most: int = 5) -> str:
    classes = record.data.classes
    pairs = [
        (count, classes[true], classes[predicted])
        for true, row in enumerate(record.test.confusion)
        for predicted, count in enumerate(row)
        if true != predicted and count
    ]
    if not pairs:
        return "Every test image was classified correctly."
    pairs.sort(key=lambda pair: -pair[0])
    listed = ", ".join(
        f"{true} predicted as {predicted} ({count})" for count, true, predicted in pairs[:most]
    )
    wrong = record.test.num_images - record.test.num_correct
    return f"Of {counted(wrong, 'misclassified test image')}, the most frequent: {listed}."
