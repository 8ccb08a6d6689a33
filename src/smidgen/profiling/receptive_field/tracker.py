"""What every tensor of a trace sees of the image, kept up to date operator by operator."""

from collections.abc import Sequence

from smidgen import record
from smidgen.profiling.receptive_field.arithmetic import Field, join
from smidgen.profiling.receptive_field.axes import Sight, UnknownError, plain, tidy
from smidgen.profiling.receptive_field.rules import rule_for
from smidgen.profiling.trace import Operator, Value

# They take no more of their input than its shape.
_CREATORS = {
    *("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like"),
    *("new_zeros", "new_ones", "new_full", "new_empty"),
}


class FieldTracker:
    """The sights of all tensors so far.

    A tensor that has none sees nothing of the image; a lost one sees what is not known.
    """

    def __init__(self, image: Value) -> None:
        self.notes: list[str] = []
        self._sights: dict[int, Sight] = {}
        self._lost: dict[int, str | None] = {}
        self._by_storage: dict[int, set[int]] = {image.storage: {image.key}}
        if len(image.shape) == 4:
            _, channels, height, width = image.shape
            dimensions = ((), plain(channels), tidy([(0, height)]), tidy([(1, width)]))
            self._sights[image.key] = Sight((Field(), Field()), dimensions)
        else:
            self._lost[image.key] = None
            self._note(
                "Receptive fields are defined for images (channels, height, width); the input is "
                f"{image.shape[1:]}."
            )

    def field(self, values: Sequence[Value]) -> tuple[record.Pair, record.Pair] | None:
        """Receptive field and jump, (vertical, horizontal), of what sees all `values`.

        None where one of them is not known, or none sees anything of the image.
        """
        if any(value.key in self._lost for value in values):
            return None
        seen = [self._sights[value.key].fields for value in values if value.key in self._sights]
        if not seen:
            return None
        high, wide = (join(fields[axis] for fields in seen) for axis in (0, 1))
        return (high.size, wide.size), (high.jump, wide.jump)

    def apply(self, operator: Operator) -> bool:
        """Goes on to after `operator`; whether it looks along the map from end to end."""
        for value in (*operator.inputs, *operator.outputs):
            self._by_storage.setdefault(value.storage, set()).add(value.key)
        if operator.name in _CREATORS:
            self._write(operator, None, blind=True)
            return False
        lost = [value for value in operator.inputs if value.key in self._lost]
        if lost:
            for value in lost:
                if reason := self._lost[value.key]:
                    self._note(reason)
            self._write(operator, None)
            return False
        if not any(value.key in self._sights for value in operator.inputs):
            self._write(operator, None, blind=True)
            return False
        rule = rule_for(operator)
        try:
            if rule is None:
                raise UnknownError("smidgen has no rule for it")
            before = self._sights
            sight = rule(operator, before)
        except UnknownError as error:
            self._note(f"The receptive field is not known from {operator.name} on: {error}.")
            self._write(operator, None)
            return False
        swept = any(
            field.fixed and not any(old.fixed for old in self._inputs(operator, axis))
            for axis, field in enumerate(sight.fields)
        )
        self._write(operator, sight)
        return swept and not operator.pointwise

    def _inputs(self, operator: Operator, axis: int) -> list[Field]:
        seen = (self._sights.get(value.key) for value in operator.inputs)
        return [sight.fields[axis] for sight in seen if sight is not None]

    def _write(self, operator: Operator, sight: Sight | None, blind: bool = False) -> None:
        written = {value.key for value in operator.outputs}
        if operator.in_place and not blind:
            for value in operator.outputs:
                for other in self._by_storage[value.storage] - written:
                    self._lose(other, f"a tensor is written in place by {operator.name}")
        for rank, value in enumerate(operator.outputs):
            self._sights.pop(value.key, None)
            self._lost.pop(value.key, None)
            if blind:
                continue
            if sight is not None and len(sight.dimensions) == len(value.shape):
                self._sights[value.key] = sight
            else:
                self._lost[value.key] = (
                    None if rank == 0 else (f"only the first result of {operator.name} is followed")
                )

    def _lose(self, key: int, reason: str) -> None:
        self._sights.pop(key, None)
        self._lost[key] = (
            f"The receptive field is not known where {reason} and read by another name."
        )

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)
