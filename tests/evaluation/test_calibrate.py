import numpy as np
import pytest
import tensorflow as tf

from larq_ssl.evaluation.calibrate import calibrate_batch_norm

MEAN, STD = np.array([3.0, -1.0, 0.5]), np.array([2.0, 0.5, 1.0])


def images(count=96, seed=0):
    values = np.random.default_rng(seed).normal(MEAN, STD, (count, 6, 6, 3))
    # The images differ in level, so that the means of the batches differ too.
    return (values + np.linspace(0, 4, count)[:, None, None, None]).astype(np.float32)


def network(extra=()):
    tf.keras.utils.set_random_seed(1)
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.BatchNormalization(momentum=0.9, input_shape=(6, 6, 3), name="bn1"),
            layers.Conv2D(8, 3, use_bias=False),
            layers.Lambda(tf.sign),
            *extra,
            layers.Conv2D(5, 3, use_bias=False),
            layers.BatchNormalization(name="bn2"),
            layers.GlobalAveragePooling2D(),
        ]
    )


def batches(values, size):
    return [{"image": values[i : i + size]} for i in range(0, len(values), size)]


def statistics(layer):
    return layer.moving_mean.numpy(), layer.moving_variance.numpy()


@pytest.mark.parametrize("size", [96, 32, 36])
def test_first_layer_gets_the_statistics_of_the_whole_set_however_it_is_cut(size):
    model, values = network(), images()
    calibrate_batch_norm(model, batches(values, size))
    mean, variance = statistics(model.get_layer("bn1"))
    np.testing.assert_allclose(mean, values.mean((0, 1, 2)), rtol=1e-5)
    # Keras's variance within a batch is the unbiased one of 4-D inputs.
    np.testing.assert_allclose(variance, values.var((0, 1, 2)), rtol=1.5 / (size * 36) + 1e-5)


def test_deep_layers_see_inputs_normalised_by_the_layers_before():
    model, values = network(), images()
    model.get_layer("bn1").moving_mean.assign([50.0, 50.0, 50.0])
    calibrate_batch_norm(model, batches(values, 96))
    x = (values - values.mean((0, 1, 2))) / np.sqrt(values.var((0, 1, 2)) + 1e-3)
    for layer in model.layers[1:-2]:
        x = layer(x)
    mean, variance = statistics(model.get_layer("bn2"))
    np.testing.assert_allclose(mean, np.mean(x, (0, 1, 2)), atol=1e-3)
    np.testing.assert_allclose(variance, np.var(x, (0, 1, 2)), rtol=1e-2)


def test_nothing_else_changes_and_it_repeats():
    model = network()
    model.get_layer("bn2").trainable = False
    before = [weight.numpy() for weight in model.weights]
    calibrate_batch_norm(model, batches(images(), 32))
    after = [weight.numpy() for weight in model.weights]
    changed = {w.name for w, a, b in zip(model.weights, before, after, strict=True) if not np.array_equal(a, b)}
    assert changed == {f"bn{i}/moving_{name}:0" for i in (1, 2) for name in ("mean", "variance")}
    assert model.get_layer("bn1").momentum == 0.9
    assert model.get_layer("bn2").momentum == 0.99
    assert model.get_layer("bn1").trainable
    assert not model.get_layer("bn2").trainable
    calibrate_batch_norm(model, batches(images(), 32))
    for weight, value in zip(model.weights, after, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_graphs_traced_before_neither_disturb_it_nor_are_disturbed():
    model, values = network(), images()
    train = tf.function(lambda x: model(x, training=True))
    train(values)
    calibrate_batch_norm(model, batches(values, 96))
    bn = model.get_layer("bn1")
    mean = bn.moving_mean.numpy()
    np.testing.assert_allclose(mean, values.mean((0, 1, 2)), rtol=1e-5)
    for step in (train, tf.function(lambda x: model(x, training=True))):
        bn.moving_mean.assign(mean)
        step(values + 1.0)
        np.testing.assert_allclose(bn.moving_mean.numpy(), mean + 0.1, rtol=1e-5)


def test_old_statistics_leave_no_trace_even_if_not_finite():
    model, values = network(), images()
    model.get_layer("bn1").moving_mean.assign([np.nan, np.inf, 1e30])
    calibrate_batch_norm(model, batches(values, 48))
    np.testing.assert_allclose(statistics(model.get_layer("bn1"))[0], values.mean((0, 1, 2)), rtol=1e-5)


def test_layers_inside_of_models_inside_are_found():
    inner = tf.keras.Sequential([tf.keras.layers.BatchNormalization(input_shape=(3,), name="bn")])
    model = tf.keras.Sequential([tf.keras.layers.GlobalAveragePooling2D(input_shape=(6, 6, 3)), inner])
    values = images()
    calibrate_batch_norm(model, [tf.constant(values)])
    np.testing.assert_allclose(inner.layers[0].moving_variance, values.mean((1, 2)).var(0), rtol=1e-4)


def test_mistakes_are_named_and_leave_the_network_as_it_was():
    with pytest.raises(ValueError, match="no batch"):
        calibrate_batch_norm(network(), [])
    with pytest.raises(ValueError, match="no BatchNormalization"):
        calibrate_batch_norm(tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3,))]), batches(images(), 8))
    with pytest.raises(ValueError, match="random in training mode.*'noise'"):
        calibrate_batch_norm(network([tf.keras.layers.Dropout(0.5, name="noise")]), batches(images(), 8))
    model = network()
    with pytest.raises(ValueError):
        calibrate_batch_norm(model, [np.zeros((2, 5, 5, 7), np.float32)])
    assert model.get_layer("bn1").momentum == 0.9
