from collections import Counter

import larq
import pytest
import tensorflow as tf

from larq_ssl import layers, models
from larq_ssl.quantizers import MagnitudeSign
from larq_ssl.roles import Role, variable_roles


@pytest.mark.parametrize("binarization", ["none", "activations", "full"])
def test_roles_of_a_binary_network(binarization):
    encoder = models.build("reactnet_a", binarization=binarization, width=0.25, classes=10)
    pairs = variable_roles(encoder)
    assert [id(variable) for variable, _ in pairs] == [id(weight) for weight in encoder.trainable_weights]
    norms = sum(isinstance(layer, tf.keras.layers.BatchNormalization) for layer in encoder.layers)
    assert Counter(role for _, role in pairs) == {
        Role.KERNEL: 1 + 31 + 1,
        Role.BIAS: 1,
        Role.NORM: 2 * norms,
        # Of the signs, which the float twin lacks, and around the PReLUs.
        Role.THRESHOLD: (0 if binarization == "none" else 26) + 2 * 26,
        Role.SLOPE: 26,
    }
    by_id = {id(variable): role for variable, role in pairs}
    block = encoder.get_layer("block1/act1")
    assert [by_id[id(w)] for w in (block.bias_in, block.slope)] == [Role.THRESHOLD, Role.SLOPE]
    assert by_id[id(encoder.get_layer("fc").bias)] == Role.BIAS


def test_types_of_keras():
    model = tf.keras.Sequential(
        [
            tf.keras.Input([8, 8, 3]),
            tf.keras.layers.DepthwiseConv2D(3),
            tf.keras.layers.SeparableConv2D(4, 3),
            larq.layers.QuantSeparableConv2D(4, 3),
            tf.keras.layers.PReLU(),
            tf.keras.layers.Flatten(),
            tf.keras.layers.LayerNormalization(),
            tf.keras.layers.experimental.SyncBatchNormalization(),
            tf.keras.layers.Dense(3, use_bias=False),
        ]
    )
    separable = [Role.DEPTHWISE, Role.KERNEL, Role.BIAS]
    expected = [
        Role.DEPTHWISE,
        Role.BIAS,
        *separable,
        *separable,
        Role.SLOPE,
        *(Role.NORM,) * 4,
        Role.KERNEL,
    ]
    assert [role for _, role in variable_roles(model)] == expected


def test_a_layer_may_override_the_role_of_its_kernel():
    prototypes = tf.keras.layers.Dense(3)
    prototypes.kernel_role = Role.PROTOTYPES
    model = tf.keras.Sequential([tf.keras.Input([2]), tf.keras.layers.Dense(2), prototypes])
    assert [role for _, role in variable_roles(model)] == [
        Role.KERNEL,
        Role.BIAS,
        Role.PROTOTYPES,
        Role.BIAS,
    ]


def test_nested_models():
    head = tf.keras.Sequential([tf.keras.Input([8]), tf.keras.layers.Dense(2), layers.batch_norm("bn")])
    inputs = tf.keras.Input([8, 8, 3])
    encoder = models.build("reactnet_18", width=0.125)
    model = tf.keras.Model(inputs, head(tf.keras.layers.Dense(8)(encoder(inputs))))
    pairs = variable_roles(model)
    assert [id(variable) for variable, _ in pairs] == [id(weight) for weight in model.trainable_weights]


def test_an_unknown_layer_is_an_error():
    class Mystery(tf.keras.layers.Layer):
        def build(self, input_shape):
            self.kernel = self.add_weight("kernel", shape=[3])

        def call(self, inputs):
            return inputs * self.kernel

    model = tf.keras.Sequential([tf.keras.Input([3]), tf.keras.layers.Dense(3), Mystery()])
    with pytest.raises(TypeError, match="`Mystery` has no role"):
        variable_roles(model)


def test_mirrored_and_quantised_variables():
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = tf.keras.Sequential(
            [
                tf.keras.Input([3]),
                larq.layers.QuantDense(2, kernel_quantizer=MagnitudeSign(), kernel_constraint="weight_clip"),
            ]
        )
    pairs = variable_roles(model)
    assert [role for _, role in pairs] == [Role.KERNEL, Role.BIAS]
    assert [id(variable) for variable, _ in pairs] == [id(weight) for weight in model.trainable_weights]
