"""What a record shows when nobody has written an analysis."""

from smidgen.record import RunRecord
from smidgen.report.formatting import first_epoch_at, percent


def facts(record: RunRecord) -> list[str]:
    """A sentence for each thing that the record shows of how the network learnt."""
    return [
        *_gap(record),
        *_first_at_target(record),
        *_where_parameters_are(record),
        *_confusions(record),
    ]


def _gap(record: RunRecord) -> list[str]:
    last = record.epochs[-1]
    if last.validation is None:
        return ["No images were set aside for validation: the network was trained on all of them."]
    gap = last.train.accuracy - last.validation.accuracy
    if gap > 0:
        reading = "the network knows its training images better than new ones"
    else:
        reading = (
            "the network does not overfit (training figures are taken while it still learns, on "
            "augmented images and with dropout where the recipe has them)"
        )
    return [
        f"After the last epoch, accuracy is {percent(last.train.accuracy)} in training and "
        f"{percent(last.validation.accuracy)} in validation, a gap of {100 * gap:+.2f} points: "
        f"{reading}."
    ]


def _first_at_target(record: RunRecord) -> list[str]:
    target = record.experiment.budget.min_accuracy
    seen = [epoch.validation.accuracy for epoch in record.epochs if epoch.validation]
    if target is None or not seen:
        return []
    first = first_epoch_at(record.epochs, target)
    if first is None:
        best = max(seen)
        return [
            f"Validation accuracy never reached {percent(target)}; its best was {percent(best)}."
        ]
    return [f"Validation accuracy first reached {percent(target)} after epoch {first}."]


def _where_parameters_are(record: RunRecord) -> list[str]:
    total = record.profile.num_params
    largest = sorted(record.profile.layers, key=lambda layer: -layer.params)[:3]
    shares = ", ".join(
        f"{layer.name} {layer.params:,} ({layer.params / total:.0%})"
        for layer in largest
        if layer.params
    )
    return [f"Of {total:,} parameters, the most are in {shares}."] if shares else []


def _confusions(record: RunRecord, most: int = 5) -> list[str]:
    classes = record.data.classes
    pairs = [
        (count, classes[true], classes[guess])
        for true, row in enumerate(record.test.confusion)
        for guess, count in enumerate(row)
        if true != guess and count
    ]
    if not pairs:
        return ["Every test image was classified rightly."]
    pairs.sort(key=lambda pair: -pair[0])
    listed = ", ".join(f"{true} taken for {guess} ({count})" for count, true, guess in pairs[:most])
    wrong = record.test.num_images - record.test.num_correct
    return [f"Of {wrong} wrong test images, the most frequent: {listed}."]
