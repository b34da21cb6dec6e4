"""Names of back ends and precisions, for parsers of arguments: imports nothing."""

from __future__ import annotations

AUTO = "auto"
#: Every back end by name, as module:class (imported when it is first used).
BACKENDS = {
    "tensorrt": "v2w_core.backends.torch_step.tensorrt:TensorRt",
    "tensorrt-rtx": "v2w_core.backends.onnx_step.tensorrt_rtx:TensorRtRtx",
    "torch": "v2w_core.backends.torch_step.cuda_graphs:TorchGraphs",
    "onnx": "v2w_core.backends.onnx_step.onnx_runtime:OnnxRuntime",
    "eager": "v2w_core.backends.eager:Eager",
}
#: The back ends that "auto" tries, in this order.
CHAIN = tuple(BACKENDS)
PRECISIONS = ("fp32", "fp16", "bf16")
