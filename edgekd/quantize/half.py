"""Half precision, for providers without int8 kernels."""

from __future__ import annotations

import onnx
from onnx import ModelProto, TensorProto, helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from edgekd import front


def to_half(model: ModelProto) -> ModelProto:
    """Return the graph in float16; `image` stays uint8 and `logits` float32, so that the app sees no difference.

    The front stays in float32: pixels minus mean need more than 11 bits.
    """
    kept = [node.name for node in front.nodes_of(model)]
    # The converter finds where float16 meets the front by the shapes, which a graph need not carry.
    shaped = onnx.shape_inference.infer_shapes(model)
    half = convert_float_to_float16(shaped, keep_io_types=True, node_block_list=kept, disable_shape_infer=True)
    logits = half.graph.output[0]
    if logits.type.tensor_type.elem_type != TensorProto.FLOAT:
        raise helper.ValidationError("float16 conversion changed the type of the output")  # type: ignore[attr-defined]
    return half  # type: ignore[no-any-return]
