"""Receptive field propagation: the spans of all tensors of a trace, operator by operator."""

from collections.abc import Sequence

from smidgen.profiling.receptive_field.rules import rule_for
from smidgen.profiling.receptive_field.span import Span, UnknownError, image_spans
from smidgen.profiling.trace import Operator, Value
from smidgen.record import Pair

# They take only the shape of their input.
_CREATORS = {
    *("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like"),
    *("new_zeros", "new_ones", "new_full", "new_empty"),
}


class FieldPropagation:
    """The receptive fields of all tensors so far.

    A tensor is in `_spans` (vertical and horizontal), or in `_unknown`, or does not depend on the
    image.
    """

    def __init__(self, image: Value) -> None:
        self.notes: list[str] = []
        self._spans: tuple[dict[int, Span], dict[int, Span]] = ({}, {})
        self._unknown: dict[int, str | None] = {}
        """With a note for whoever reads the tensor, if no note has said it yet."""
        self._by_storage: dict[int, set[int]] = {image.storage: {image.key}}
        if len(image.shape) == 4:
            for spans, span in zip(self._spans, image_spans(image.shape), strict=True):
                spans[image.key] = span
        else:
            self._unknown[image.key] = None
            self._note(
                "Receptive fields are defined for images (channels, height, width); the input is "
                f"{image.shape[1:]}."
            )

    def spans(self, value: Value) -> tuple[Span, Span] | None:
        """The vertical and horizontal spans of `value`; None if unknown or not of the image."""
        vertical, horizontal = (spans.get(value.key) for spans in self._spans)
        return (vertical, horizontal) if vertical and horizontal else None

    def field(self, values: Sequence[Value]) -> tuple[Pair, Pair] | None:
        """Receptive field and jump, each (vertical, horizontal), of all `values` together.

        None if one of them is unknown, or if none depends on the image.
        """
        if any(value.key in self._unknown for value in values):
            return None
        known = [spans for value in values if (spans := self.spans(value))]
        if not known:
            return None
        high, wide = zip(*known, strict=True)
        return (
            (max(span.size for span in high), max(span.size for span in wide)),
            (max(span.jump for span in high), max(span.jump for span in wide)),
        )

    def apply(self, operator: Operator) -> bool:
        """Follow `operator`; return whether its outputs, unlike its inputs, see the whole map."""
        for value in (*operator.inputs, *operator.outputs):
            self._by_storage.setdefault(value.storage, set()).add(value.key)
        inputs = {value.key for value in operator.inputs}
        if operator.name in _CREATORS or not inputs & (self._spans[0].keys() | self._unknown):
            for value in operator.outputs:
                self._forget(value.key)
            return False
        unknown = [key for key in inputs if key in self._unknown]
        for key in unknown:
            self._note(self._unknown[key])
        fields = None if unknown else self._propagate(operator)
        sees_all = fields is not None and any(
            outputs[0].shared and not any(spans[key].shared for key in inputs & spans.keys())
            for spans, outputs in zip(self._spans, fields, strict=True)
        )
        self._write(operator, fields)
        return sees_all and not operator.pointwise

    def _propagate(self, operator: Operator) -> list[list[Span]] | None:
        """Vertical and horizontal spans, each of all outputs; None and a note where unknown."""
        rule = rule_for(operator)
        try:
            if rule is None:
                raise UnknownError("smidgen has no rule for it")
            fields = [rule(operator, spans, axis) for axis, spans in enumerate(self._spans)]
        except UnknownError as error:
            self._note(f"The receptive field is not known from {operator.name} on: {error}.")
            return None
        return [
            outputs if isinstance(outputs, list) else [outputs] * len(operator.outputs)
            for outputs in fields
        ]

    def _write(self, operator: Operator, fields: list[list[Span]] | None) -> None:
        written = {value.key for value in operator.outputs}
        if operator.in_place:
            for value in operator.outputs:
                for other in self._by_storage[value.storage] - written:
                    self._forget(other)
                    self._unknown[other] = (
                        "The receptive field is not known where a tensor is written in place by "
                        f"{operator.name} and read by another name."
                    )
        for rank, value in enumerate(operator.outputs):
            self._forget(value.key)
            if fields is not None and fields[0][rank].shape == value.shape:
                for spans, outputs in zip(self._spans, fields, strict=True):
                    spans[value.key] = outputs[rank]
            elif fields is None and rank == 0:
                self._unknown[value.key] = None
            else:
                self._unknown[value.key] = f"Only the first result of {operator.name} is followed."

    def _forget(self, key: int) -> None:
        for known in (*self._spans, self._unknown):
            known.pop(key, None)

    def _note(self, note: str | None) -> None:
        if note is not None and note not in self.notes:
            self.notes.append(note)
