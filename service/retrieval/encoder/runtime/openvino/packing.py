"""Packed graphs: attention computes padding; all else computes tokens alone, in one column.

Nine tenths of a graph's work are matrix products that treat each token alone. Where lengths differ,
padding is a tenth to a quarter of a batch. A packed graph leaves it out, with equal bits in fp32,
and has one shape of products for each number of tokens in place of one for each [B, L]. What it
costs are copies before and after each attention: a text alone takes a tenth longer. So streams and
graphs that are compiled once are packed, and the graph of a lone query is not.
"""

from typing import Any

import numpy as np

# Operations that treat each token alone, if they have the axes that `_is_tokenwise` checks.
ELEMENTWISE = frozenset(
    {
        *("Add", "Subtract", "Multiply", "Divide", "Power", "Maximum", "Minimum"),
        *("Gelu", "Relu", "Tanh", "Sigmoid", "Swish", "Erf", "Sqrt"),
    }
)
OVER_LAST_AXIS = frozenset({"MVN", "ReduceMean"})


def pack_graph(model: Any) -> Any:
    """Return a packed copy of a graph; its weights are not copied.

    Args:
        model: an `openvino.Model` of `inputs_embeds` [B, L, H] and `attention_mask` [B, L].

    Returns:
        The copy. It has two more inputs, what `inputs.token_positions` returns.
    """
    model = model.clone()
    packing = _Packing(model)
    for node in model.get_ordered_ops():
        packing.visit(node)
    model.add_parameters([packing.tokens, packing.places])
    model.validate_nodes_and_infer_types()
    return model


class _Packing:
    """Rewrites the inputs of a graph's nodes, which `visit` gets in the order of computation.

    A value [B, L, N] is packed, [T, 1, N], from the first product with weights until an operation
    needs more than one token.
    """

    def __init__(self, model: Any) -> None:
        from openvino import Type  # not at the top: see `import_openvino`
        from openvino import opset13 as ops

        self._ops = ops
        self._first = ops.constant(np.int32(0))
        self.tokens = ops.parameter([-1], Type.i32, name="tokens")
        self.places = ops.parameter([-1, -1], Type.i32, name="places")
        self._constant: set[str] = set()
        self._packed: set[str] = set()
        self._copies: dict[tuple[str, int], Any] = {}

    def visit(self, node: Any) -> None:
        """Pack a node's inputs if it treats tokens alone, else unpack those that are packed."""
        name, sources = node.get_name(), node.input_values()
        names = [source.get_node().get_name() for source in sources]
        if node.get_type_name() == "Constant" or (names and self._constant.issuperset(names)):
            self._constant.add(name)
            return
        values = [index for index, each in enumerate(names) if each not in self._constant]
        has_packed = any(names[index] in self._packed for index in values)
        starts = node.get_type_name() == "MatMul"
        is_packed = (has_packed or starts) and self._is_tokenwise(node, values)
        if is_packed:
            self._packed.add(name)
        for index in values:
            if (names[index] in self._packed) != is_packed:
                copy = self._copy(sources[index], is_packed)
                node.input(index).replace_source_output(copy)

    def _is_tokenwise(self, node: Any, values: list[int]) -> bool:
        """Return whether a node computes each token alone: [T, 1, N] may replace [B, L, N]."""
        shapes = [source.get_partial_shape() for source in node.input_values()]
        if not all(_is_batch(shapes[index]) for index in values):
            return False
        constants = [index for index in range(len(shapes)) if index not in values]
        kind = node.get_type_name()
        if kind == "MatMul":
            is_plain = constants == [1] and not node.get_attributes()["transpose_a"]
            return is_plain and len(shapes[1]) == 2
        if kind in OVER_LAST_AXIS:
            axes = np.atleast_1d(node.input_value(1).get_node().get_data()).tolist()
            return axes in ([-1], [2]) and len(node.get_output_partial_shape(0)) == 3
        return kind in ELEMENTWISE and all(
            len(shapes[index]) <= 3 and all(size == 1 for size in list(shapes[index])[:-1])
            for index in constants
        )

    def _copy(self, value: Any, is_packed: bool) -> Any:
        """Return a value in its other form; there is one copy for all that need it."""
        key = value.get_node().get_name(), value.get_index()
        if key not in self._copies:
            size = value.get_partial_shape()[2].get_length()
            # Rows of T or of B times L tokens, which `gather` then takes in the other order.
            shape, order = ([-1, 1, size], self.tokens) if is_packed else ([-1, size], self.places)
            rows = self._ops.reshape(value, np.array(shape), special_zero=False)
            self._copies[key] = self._ops.gather(rows, order, self._first).output(0)
        return self._copies[key]


def _is_batch(shape: Any) -> bool:
    """Return whether a shape is [B, L, N], of any number of texts of any length."""
    return len(shape) == 3 and [size.is_dynamic for size in shape] == [True, True, False]
