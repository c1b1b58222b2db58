"""Quantization of a graph's weights to 8-bit integers with one scale an output channel.

At run time OpenVINO also rounds the activations of these products to 8 bits, in groups. Layer
norms, the attention's own products and the embedding table keep their precision.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Smaller matrices, as in the tests' encoder, gain nothing.
MIN_WEIGHTS = 1024


def compress_weights(model: Any) -> int:
    """Replace the constant weights of matrix products by int8 weights.

    Args:
        model: an `openvino.Model`, changed in place.

    Returns:
        The number of matrices replaced.
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
        # One scale along the axis that the product sums over.
        axis = 1 if product.get_attributes()["transpose_b"] else 0
        rounded, scale = quantize(weights, axis)
        whole = ops.convert(ops.constant(rounded, dtype=np.int8), "f32")
        product.input(1).replace_source_output(ops.multiply(whole, ops.constant(scale)).output(0))
        num_replaced += 1
    return num_replaced


def quantize(
    weights: NDArray[np.float32], axis: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round weights to multiples of a scale, from -127 to 127.

    Args:
        weights: a matrix.
        axis: the axis along which weights share a scale.

    Returns:
        The multiples, and the scales with `axis` of length 1.

    >>> multiples, scale = quantize(np.array([[0.5, -127.0], [2.0, 254.0]], np.float32), axis=1)
    >>> multiples.tolist(), scale.tolist()
    ([[0, -127], [1, 127]], [[1.0], [2.0]])
    """
    scale = np.abs(weights).max(axis=axis, keepdims=True) / 127
    scale[scale == 0] = 1
    with np.errstate(invalid="ignore"):  # where weights are NaN or infinite, so is the scale
        return np.rint(weights / scale).astype(np.int8), scale
