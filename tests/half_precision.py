"""Which operations of a graph are computed in half precision, although they must not be."""

import collections

import tensorflow as tf

# Norms, softmaxes, Sinkhorn and singular values consist of these; so do means, spreads and distances. Variables are
# assigned with these.
PRECISE = frozenset(
    (
        *("Softmax", "LogSoftmax", "SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits"),
        *("Exp", "Expm1", "Log", "Log1p", "Xlogy", "Pow"),
        *("Sqrt", "Rsqrt", "SqrtGrad", "RsqrtGrad", "Square", "SquaredDifference", "L2Loss"),
        *("Svd", "Mean", "Sum", "Cumsum", "AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"),
    )
)
# The scales, shifts and statistics of these have a type of their own.
BATCH_NORM = frozenset(("FusedBatchNormV3", "FusedBatchNormGradV3"))
_HALF = {tf.float16.as_datatype_enum, tf.bfloat16.as_datatype_enum}


def nodes(function):
    """All nodes of a traced function, those of the functions that it calls included."""
    graph = function.graph.as_graph_def()
    return [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]


def imprecise(function):
    """How often each operation that must be float32 occurs in half precision."""
    found = collections.Counter()
    for node in nodes(function):
        if "gelu" in node.name.lower():
            continue  # an activation like others; its slope is an exponential
        attributes = ("U",) if node.op in BATCH_NORM else ("T", "dtype") if node.op in PRECISE else ()
        if any(node.attr[name].type in _HALF for name in attributes if name in node.attr):
            found[node.op] += 1
    return dict(found)


def products(function):
    """How many matrix products and convolutions are computed in half precision."""
    kinds = {"MatMul", "BatchMatMulV2", "Conv2D", "DepthwiseConv2dNative"}
    return sum(node.op in kinds and node.attr["T"].type in _HALF for node in nodes(function))
