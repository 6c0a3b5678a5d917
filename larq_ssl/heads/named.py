"""The heads of the methods, by their names."""

from collections.abc import Sequence

import tensorflow as tf

from larq_ssl.heads.mlp import mlp_head
from larq_ssl.roles import Role


def simclr_head(
    name: str, input_dim: int, output_dim: int = 128, depth: int = 3, synchronized: bool = False
) -> tf.keras.Sequential:
    """SimCLR's head: hidden layers as wide as the features, and batch norm after every layer, the last included.

    # Arguments
        name: Name of the model.
        input_dim: Length of the features that go in.
        output_dim: Length of an embedding, which has a batch norm of its own, without shift.
        depth: Number of layers: 2 in SimCLR, 3 in SimCLRv2, which also tries 4.
        synchronized: Whether batch norm takes its statistics over all replicas.
    # Returns
        A built model `[batch, input_dim] -> [batch, output_dim]`, whose attribute `spec` is its `HeadSpec`.
    # Raises
        ValueError: If a width or the depth is not positive.
    # References
        - Big Self-Supervised Models are Strong Semi-Supervised Learners (Chen et al., 2020), Sec. 2 and released code
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}.")
    return mlp_head(
        name,
        input_dim,
        [input_dim] * (depth - 1),
        output_dim,
        "batch",
        kernel_initializer="normal_0.01",
        synchronized=synchronized,
        output_norm=True,
    )


def byol_head(
    name: str,
    input_dim: int,
    hidden_dim: int = 4096,
    output_dim: int = 256,
    norm: str = "batch",
    synchronized: bool = False,
) -> tf.keras.Sequential:
    """BYOL's projector and, from embeddings to embeddings, its predictor: one hidden layer, and an output without bias.

    # Arguments
        name: Name of the model.
        input_dim: Length of what goes in.
        hidden_dim: Width of the hidden layer.
        output_dim: Length of an embedding.
        norm: See `mlp_head`.
        synchronized: Whether batch norm takes its statistics over all replicas.
    # Returns
        A built model `[batch, input_dim] -> [batch, output_dim]`, whose attribute `spec` is its `HeadSpec`.
    # Raises
        ValueError: If a width is not positive or the norm is unknown.
    # References
        - Bootstrap Your Own Latent (Grill et al., 2020), Sec. 3.3 and released code
    # Differences from the paper
        As for `mlp_head`: no bias directly before a batch norm.
    """
    return mlp_head(
        name,
        input_dim,
        [hidden_dim],
        output_dim,
        norm,
        kernel_initializer="lecun",
        synchronized=synchronized,
        output_bias=False,
    )


def dino_head(
    name: str,
    input_dim: int,
    output_dim: int = 65536,
    batch_norm: bool = False,
    free_gain: bool = False,
    hidden_dims: Sequence[int] = (2048, 2048),
    bottleneck_dim: int = 256,
    synchronized: bool = False,
) -> tf.keras.Sequential:
    """DINO's head: hidden layers with GELU, a bottleneck, its unit row, and weight-normalised directions.

    # Arguments
        name: Name of the model.
        input_dim: Length of the features that go in.
        output_dim: Number of directions; SSLight has 4,096 for convolutional networks.
        batch_norm: Whether batch norm follows each hidden layer, as SSLight has it for convolutional networks.
        free_gain: Whether the lengths of the directions are trained, as SSLight has it for ViTs.
        hidden_dims: Widths of the hidden layers.
        bottleneck_dim: Width of the row that is normalised.
        synchronized: Whether batch norm takes its statistics over all replicas.
    # Returns
        A built model `[batch, input_dim] -> [batch, output_dim]`, whose attribute `spec` is its `HeadSpec`.
    # Raises
        ValueError: If a width is not positive.
    # References
        - Emerging Properties in Self-Supervised Vision Transformers (Caron et al., 2021), App. C
    # Differences from the paper
        As for `mlp_head`: no bias directly before a batch norm.
    """
    return mlp_head(
        name,
        input_dim,
        hidden_dims,
        bottleneck_dim,
        "batch" if batch_norm else "none",
        kernel_initializer="normal_0.02",
        synchronized=synchronized,
        activation="gelu",
        last_layer=output_dim,
        free_gain=free_gain,
    )


def prototypes(name: str, input_dim: int, count: int, kernel_initializer: str = "pytorch") -> tf.keras.Sequential:
    """SwAV's prototypes: a dense layer without bias, whose kernel has the role of prototypes.

    # Arguments
        name: Name of the model.
        input_dim: Length of an embedding.
        count: Number of prototypes.
        kernel_initializer: See `mlp_head`; SSLight has `normal_0.01`.
    # Returns
        A built model `[batch, input_dim] -> [batch, count]`: the scores, cosines if kernel columns and rows of the
        input have length one.
    # References
        - Unsupervised Learning of Visual Features by Contrasting Cluster Assignments (Caron et al., 2020)
    """
    return mlp_head(
        name,
        input_dim,
        (),
        count,
        norm="none",
        kernel_initializer=kernel_initializer,
        output_bias=False,
        output_role=Role.PROTOTYPES.value,
    )


def linear_classifier(
    name: str, input_dim: int, classes: int, kernel_initializer: str = "pytorch"
) -> tf.keras.Sequential:
    """A linear classifier, whose kernel has the role of a last layer.

    SimCLR's LARS does not scale that role and leaves its decay to the loss; to most others it is a kernel.

    # Arguments
        name: Name of the model.
        input_dim: Length of what goes in.
        classes: Number of logits.
        kernel_initializer: See `mlp_head`; SimCLR fine-tunes from `zeros`.
    # Returns
        A built model `[batch, input_dim] -> [batch, classes]`: logits.
    # Raises
        ValueError: If a width is not positive or the initializer is unknown.
    """
    return mlp_head(
        name,
        input_dim,
        (),
        classes,
        norm="none",
        kernel_initializer=kernel_initializer,
        output_role=Role.LAST_LAYER.value,
    )
