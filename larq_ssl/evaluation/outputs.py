"""Other outputs of a frozen encoder than its features, such as its last map pooled in windows."""

import tensorflow as tf

from larq_ssl.models import Encoder

# Windows of 6x6 need a map of that side.
_SVM_WINDOW = 6


def named_output(encoder: Encoder, image_size: int, output: str) -> tf.keras.Model:
    """The same network, of the same layers, with one of its named outputs.

    # Arguments
        encoder: The network.
        image_size: Side of the images; some outputs need a static size.
        output: A key of `Encoder.named_outputs`.
    # Raises
        ValueError: If the encoder has no such output at that size.
    """
    sized = encoder.at(image_size)
    if output in sized.named_outputs:
        return tf.keras.Model(sized.inputs, sized.named_outputs[output], name=encoder.name)
    strides = [int(name.removeprefix("stride")) for name in encoder.named_outputs if name.startswith("stride")]
    if output == "svm" and strides:
        raise ValueError(
            f"`output` 'svm' takes the last map in windows of {_SVM_WINDOW}x{_SVM_WINDOW}, but of images of "
            f"{image_size} pixels {encoder.name} makes a smaller one: the size must be at least "
            f"{(_SVM_WINDOW - 1) * max(strides) + 1}, or the output 'pooled'."
        )
    raise ValueError(f"`output` must be one of {list(sized.named_outputs)} for {encoder.name}, got {output!r}.")
