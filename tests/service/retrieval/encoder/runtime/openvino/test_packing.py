"""Packed graphs give what the graphs that they were made of give, and compute no padding."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.retrieval.encoder.runtime.openvino.core import import_openvino
from service.retrieval.encoder.runtime.openvino.inputs import token_positions
from service.retrieval.encoder.runtime.openvino.packing import pack_graph

if find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)

# Two texts of three and two tokens, [B, L, N].
MASK = np.array([[1, 1, 1], [1, 1, 0]])
STATES = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)


def graph(make: Callable[[Any, Any, Any], Any]) -> Any:
    """Return a graph of `make(ops, states, product)`, where the product treats each token alone."""
    openvino = import_openvino()
    from openvino import opset13 as ops

    states, mask = ops.parameter([-1, -1, 4]), ops.parameter([-1, -1], openvino.Type.i64)
    product = ops.matmul(states, ops.constant(WEIGHTS), False, True)
    return openvino.Model([make(ops, states, product)], [states, mask])


def compute(model: Any, *inputs: NDArray[Any]) -> NDArray[np.float32]:
    """Return the states of the tokens, [T, N]."""
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = import_openvino().compile_model(model, "CPU", hint)
    return np.array(compiled([STATES, MASK, *inputs])[0])[MASK > 0]


def packed_shapes(model: Any, kind: str) -> list[bool]:
    """Return whether each operation of a kind computes tokens in one column."""
    found = [node for node in model.get_ordered_ops() if node.get_type_name() == kind]
    return [node.get_input_partial_shape(0)[1] == 1 for node in found]


def mean_over(axis: int) -> Callable[[Any, Any, Any], Any]:
    return lambda ops, _, product: ops.subtract(
        product, ops.reduce_mean(product, np.array([axis]), keep_dims=True)
    )


TOKENWISE: dict[str, tuple[str, Callable[[Any, Any, Any], Any]]] = {
    "bias and residual": (
        "Add",
        lambda ops, states, product: ops.add(ops.add(product, np.ones((1, 1, 4), "f4")), states),
    ),
    "activation": ("Gelu", lambda ops, states, product: ops.gelu(product, "erf")),
    "layer norm": (
        "MVN",
        lambda ops, states, product: ops.mvn(product, np.array([2]), True, 1e-5, "INSIDE_SQRT"),
    ),
    "mean over dimensions": ("ReduceMean", mean_over(-1)),
}
NOT_TOKENWISE: dict[str, tuple[str, Callable[[Any, Any, Any], Any]]] = {
    "mean over tokens": ("ReduceMean", mean_over(1)),
    "sum over the tokens before": (
        "CumSum",
        lambda ops, states, product: ops.cum_sum(product, ops.constant(1)),
    ),
    "constants of positions": (
        "Add",
        lambda ops, states, product: ops.add(product, np.arange(12, dtype="f4").reshape(1, 3, 4)),
    ),
    "product of tokens": (
        "Softmax",
        lambda ops, states, product: ops.matmul(
            ops.softmax(ops.matmul(product, product, False, True), 2), product, False, False
        ),
    ),
    "product with one row for all": (
        "Multiply",
        lambda ops, states, product: ops.multiply(
            product, ops.reduce_max(states, np.array([0, 1]), keep_dims=True)
        ),
    ),
}


@pytest.mark.parametrize(("kind", "make"), TOKENWISE.values(), ids=TOKENWISE)
def test_operations_on_each_token_alone_are_packed(
    kind: str, make: Callable[[Any, Any, Any], Any]
) -> None:
    model = graph(make)
    packed = pack_graph(model)

    assert all(packed_shapes(packed, "MatMul") + packed_shapes(packed, kind))
    tokens, places = token_positions(MASK)
    assert compute(packed, tokens, places).tobytes() == compute(model).tobytes()


@pytest.mark.parametrize(("kind", "make"), NOT_TOKENWISE.values(), ids=NOT_TOKENWISE)
def test_operations_on_several_tokens_get_them_side_by_side(
    kind: str, make: Callable[[Any, Any, Any], Any]
) -> None:
    # Padding is the first token in a packed graph: the text without padding has to be the same.
    model = graph(make)
    packed = pack_graph(model)

    assert not any(packed_shapes(packed, kind))
    assert packed_shapes(packed, "MatMul")[0]
    tokens, places = token_positions(MASK, keeps_padding=True)
    assert compute(packed, tokens, places).tobytes() == compute(model).tobytes()


def test_a_graph_that_is_packed_stays_as_it_is() -> None:
    model = graph(mean_over(-1))
    before = [node.get_friendly_name() for node in model.get_ordered_ops()]

    pack_graph(model)

    assert [node.get_friendly_name() for node in model.get_ordered_ops()] == before
    assert len(model.inputs) == 2
