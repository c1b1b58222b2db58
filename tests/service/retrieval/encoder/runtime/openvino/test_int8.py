import doctest
from importlib.util import find_spec

import numpy as np
import pytest

from service.retrieval.encoder.runtime.openvino import int8
from service.retrieval.encoder.runtime.openvino.int8 import quantize


@pytest.mark.parametrize("axis", [0, 1])
def test_a_weight_is_off_by_half_a_step_at_the_most(axis: int) -> None:
    weights = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)

    multiples, scale = quantize(weights, axis)

    assert multiples.dtype == np.int8
    assert np.all(np.abs(multiples * scale - weights) <= scale / 2 + 1e-7)


def test_a_channel_of_zeros_stays_zero() -> None:
    multiples, scale = quantize(np.zeros((2, 3), np.float32), axis=1)

    assert not multiples.any()
    assert np.isfinite(scale).all()


@pytest.mark.parametrize("transpose", [False, True])
def test_every_large_matrix_of_a_graph_is_replaced(transpose: bool) -> None:
    if find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    from service.retrieval.encoder.runtime.openvino.core import import_openvino

    openvino = import_openvino()
    ops = openvino.opset13
    weights = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    rows = ops.parameter([-1, 64], np.float32)
    small = ops.matmul(rows, ops.constant(weights[:, :8]), False, False)
    large = ops.matmul(rows, ops.constant(weights), False, transpose)
    model = openvino.Model([small, large], [rows])

    num_replaced = int8.compress_weights(model)

    outputs = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(
        [np.eye(64, dtype=np.float32)]
    )
    assert num_replaced == 1
    np.testing.assert_allclose(outputs[0], weights[:, :8], atol=1e-6)
    np.testing.assert_allclose(outputs[1], weights.T if transpose else weights, atol=0.03)


def test_the_example_of_the_docstring_holds() -> None:
    results = doctest.testmod(int8)

    assert (results.attempted, results.failed) == (2, 0)
