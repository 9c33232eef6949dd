"""ONNX Runtime: models of one node, which write where they are told. Its memory arena is on, as is its default."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..cases import STRIDED
from .optional import optional, version

onnx, onnxruntime = optional("onnx"), optional("onnxruntime")
threads = 0
"""Of the sessions made from now on; 0: as many as there are CPUs."""


@dataclass(frozen=True)
class Node:
    """An operator, its inputs beside x, and its attributes."""

    operator: str
    inputs: tuple = ()
    domain: str = ""
    attributes: dict = field(default_factory=dict)


def node(operator, *inputs, domain="", **attributes):
    return lambda: Node(operator, inputs, domain, attributes)


def along_axis(operator):
    return lambda axis: Node(operator, attributes={"axis": axis})


NODES = {
    "identity": node("Identity"),
    "sigmoid": node("Sigmoid"),
    "tanh": node("Tanh"),
    "relu": node("Relu"),
    "relu6": node("Clip", 0.0, 6.0),
    "leaky_relu": node("LeakyRelu", alpha=0.01),
    "prelu": node("PRelu", [0.25]),
    "rrelu": node("LeakyRelu", alpha=11 / 48),
    "elu": node("Elu", alpha=1.0),
    "selu": node("Selu"),
    "celu": node("Celu", alpha=1.0),
    "gelu": node("Gelu"),
    "gelu_tanh": node("Gelu", approximate="tanh"),
    "gelu_quick": node("QuickGelu", domain="com.microsoft", alpha=1.702),
    "silu": node("QuickGelu", domain="com.microsoft", alpha=1.0),
    "swish": node("QuickGelu", domain="com.microsoft", alpha=1.0),
    "mish": node("Mish"),
    "softplus": node("Softplus"),
    "softsign": node("Softsign"),
    "softshrink": node("Shrink", lambd=0.5, bias=0.5),
    "hardshrink": node("Shrink", lambd=0.5),
    "hardtanh": node("Clip", -1.0, 1.0),
    "hardsigmoid": node("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hardswish": node("HardSwish"),
    "softmax": along_axis("Softmax"),
    "log_softmax": along_axis("LogSoftmax"),
    "logsumexp": lambda axis: Node("ReduceLogSumExp", (np.array([axis]),), attributes={"keepdims": 0}),
}
"""With the default parameters."""


def session(node, arrays):
    x, y = arrays
    constants = [
        onnx.numpy_helper.from_array(
            value if isinstance(value, np.ndarray) else np.array(value, x.dtype), f"constant{i}"
        )
        for i, value in enumerate(node.inputs)
    ]
    kind = onnx.helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node(
                node.operator, ["x", *(c.name for c in constants)], ["y"], domain=node.domain, **node.attributes
            )
        ],
        node.operator,
        *([onnx.helper.make_tensor_value_info(name, kind, array.shape)] for name, array in zip("xy", arrays)),
        constants,
    )
    versions = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=versions, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def bind(case, setting, arrays):
    if case.name not in NODES or setting.layout == STRIDED or setting.dtype == "bfloat16":
        return None
    axis = (setting.axis,) if case.kind == "rows" else ()
    run = session(NODES[case.name](*axis), arrays)
    x, y = arrays
    binding = run.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(x))
    if setting.out:
        binding.bind_ortvalue_output("y", onnxruntime.OrtValue.ortvalue_from_numpy(y))
        return lambda: run.run_with_iobinding(binding)

    def call():
        binding.bind_output("y")
        run.run_with_iobinding(binding)
        return binding.get_outputs()[0].numpy()

    return call


LIBRARIES = {"ONNX Runtime": bind} if onnx and onnxruntime else {}
NAMES = tuple(NODES)
VERSIONS = version("onnxruntime") if LIBRARIES else {}


def set_num_threads(n):
    global threads
    threads = n
