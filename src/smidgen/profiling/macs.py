"""Multiply-adds of an operator, from the shapes of its inputs and outputs."""

from collections.abc import Callable
from math import prod

from torch.utils.flop_counter import flop_registry

from smidgen.errors import ModelError
from smidgen.profiling.trace import Operator, Value


def count_macs(operator: Operator) -> int:
    """Multiply-adds of a convolution, matrix product or attention; 0 for any other operator.

    Biases and element-wise products are not counted. Padding counts as if it were pixels, and a
    causal mask as if it hid nothing.

    Raises:
        ModelError: an operator in torch's FLOP registry that smidgen has no formula for.
    """
    if operator.name in _FORMULAS:
        return _FORMULAS[operator.name](operator)
    if operator.overload.overloadpacket in flop_registry:
        raise unknown_macs(operator.name)
    return 0


def unknown_macs(name: str) -> ModelError:
    """The error for an operator that multiplies in a way smidgen cannot count."""
    return ModelError(
        f"The multiply-adds of {name} are not known to smidgen; build the network from "
        "convolutions, linear layers, matrix products and attention."
    )


def _shape(operator: Operator, argument: str) -> tuple[int, ...]:
    value = operator.arguments[argument]
    assert isinstance(value, Value)
    return value.shape


def _convolution(operator: Operator) -> int:
    """Each output element (input element if transposed) meets each number of the weight once.

    The weight is (outputs, inputs / groups, *kernel), or transposed (inputs, outputs / groups,
    *kernel), so groups need no factor.
    """
    shape = _shape(operator, "input")
    if not operator.arguments["transposed"]:
        shape = (shape[0], *operator.outputs[0].shape[1:])
    return shape[0] * prod(shape[2:]) * prod(_shape(operator, "weight"))


def _product(left: str, right: str) -> Callable[[Operator], int]:
    """(..., m, k) times (..., k, n): m * n * k for each element of the batch."""

    def count(operator: Operator) -> int:
        shape, other = _shape(operator, left), _shape(operator, right)
        return prod(shape) * (other[-1] if len(other) > 1 else 1)

    return count


def _attention(operator: Operator) -> int:
    """Queries by keys, then weights by values, for each head of the queries."""
    *heads, queries, features = _shape(operator, "query")
    keys, values = _shape(operator, "value")[-2:]
    return prod(heads) * queries * keys * (features + values)


_FORMULAS: dict[str, Callable[[Operator], int]] = {
    "convolution": _convolution,
    "mm": _product("self", "mat2"),
    "addmm": _product("mat1", "mat2"),
    "bmm": _product("self", "mat2"),
    "baddbmm": _product("batch1", "batch2"),
    "addbmm": _product("batch1", "batch2"),
    "mv": _product("self", "vec"),
    "addmv": _product("mat", "vec"),
    "dot": _product("self", "tensor"),
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_cudnn_attention": _attention,
    "_scaled_dot_product_fused_attention_overrideable": _attention,
}
COUNTED = frozenset(_FORMULAS)
"""Names of the operators whose multiply-adds are counted."""
