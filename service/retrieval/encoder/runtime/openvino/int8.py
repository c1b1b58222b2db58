"""Weights as 8-bit integers, one scale an output channel, in a graph that OpenVINO has read.

OpenVINO then rounds the other factor of each such product to 8 bits, too, in groups, as it runs.
The layer norms, the attention's own products and the embedding table stay as they are.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# A product of fewer weights (a tiny test encoder has some) gains nothing.
MIN_WEIGHTS = 1024


def compress_weights(model: Any) -> int:
    """Replace the weights of matrix products.

    Args:
        model: an `openvino.Model`, changed in place.

    Returns:
        How many matrices were replaced.
    """
    from openvino import opset13 as ops  # not at the top: see `import_openvino`

    num_replaced = 0
    for product in [each for each in model.get_ops() if each.get_type_name() == "MatMul"]:
        source = product.input_value(1).get_node()
        if source.get_type_name() != "Constant":
            continue
        weights = np.asarray(source.get_data(), dtype=np.float32)
        if weights.ndim != 2 or weights.size < MIN_WEIGHTS:
            continue
        # The axis that the product sums over has one scale.
        axis = 1 if product.get_attributes()["transpose_b"] else 0
        rounded, scale = quantize(weights, axis)
        whole = ops.convert(ops.constant(rounded, dtype=np.int8), "f32")
        product.input(1).replace_source_output(ops.multiply(whole, ops.constant(scale)).output(0))
        num_replaced += 1
    return num_replaced


def quantize(
    weights: NDArray[np.float32], axis: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round weights to whole multiples of a scale, -127 to 127 times.

    Args:
        weights: a matrix.
        axis: that has one scale.

    Returns:
        The multiples, and the scales with `axis` of length 1.

    >>> multiples, scale = quantize(np.array([[0.5, -127.0], [2.0, 254.0]], np.float32), axis=1)
    >>> multiples.tolist(), scale.tolist()
    ([[0, -127], [1, 127]], [[1.0], [2.0]])
    """
    scale = np.abs(weights).max(axis=axis, keepdims=True) / 127
    scale[scale == 0] = 1
    return np.rint(weights / scale).astype(np.int8), scale
