"""All networks by name."""

from larq_ssl.models import simclr_resnet, zoo
from larq_ssl.models.binary_compute import choose
from larq_ssl.models.birealnet import BIREALNET_18, BIREALNET_34, REACTNET_18, REACTNET_34
from larq_ssl.models.encoder import Encoder, EncoderSpec, LayerStore
from larq_ssl.models.mobilenet_v2 import MOBILENET_V2
from larq_ssl.models.reactnet import REACTNET_A, REACTNET_A_BURN
from larq_ssl.models.resnet import RESNET_18, RESNET_34, RESNET_50
from larq_ssl.models.vit import VIT_SMALL_16, VIT_TINY_16, VIT_TINY_32
from larq_ssl.models.xnornet import XNOR_18

ARCHITECTURES = {
    "reactnet_a": REACTNET_A,
    "reactnet_a_burn": REACTNET_A_BURN,
    "reactnet_18": REACTNET_18,
    "reactnet_34": REACTNET_34,
    "birealnet_18": BIREALNET_18,
    "birealnet_34": BIREALNET_34,
    "xnor_18": XNOR_18,
    "resnet_18": RESNET_18,
    "resnet_34": RESNET_34,
    "resnet_50": RESNET_50,
    "mobilenet_v2": MOBILENET_V2,
    "vit_tiny_32": VIT_TINY_32,
    "vit_tiny_16": VIT_TINY_16,
    "vit_small_16": VIT_SMALL_16,
    **simclr_resnet.ARCHITECTURES,
    **zoo.ARCHITECTURES,
}


def build(
    name: str,
    image_size: int | None = None,
    binarization: str = "full",
    stem: str = "imagenet",
    width: float = 1.0,
    preprocessing: str = "imagenet",
    classes: int | None = None,
    rotate_input: bool = False,
    synchronized: bool = False,
    drop_path: float = 0.0,
    binary_compute: str = "float32",
) -> Encoder:
    """Builds an encoder with fresh weights.

    # Arguments
        name: One of `larq_ssl.models.ARCHITECTURES`.
        image_size: Height and width of the images; `None` for any (training with several sizes).
        binarization: `"none"` (the float twin), `"activations"` (stage 1) or `"full"` (stage 2).
        stem: `"imagenet"`, or `"cifar"` (3x3 convolution of stride 1, no pooling) for small images; not for `zoo:`
            and `vit_`.
        width: Factor of the channels, which are rounded to multiples of 8; not for `zoo:` and `vit_`.
        preprocessing: See `larq_ssl.layers.Preprocessing`.
        classes: Number of classes of a last dense layer; `None` for features.
        rotate_input: Whether images are turned by 180 degrees first, as networks imported from PyTorch need; not for
            `vit_`, which pads nothing.
        synchronized: Whether BatchNormalization takes its statistics over all replicas while it trains. No part
            of the `spec`: what is saved is the same network, which is not synchronised when it is loaded.
        drop_path: Probability with which the last residual branch is dropped in training, example by example; it
            rises linearly from 0 of the first. Only for `vit_`, and for students: no part of the `spec` either.
        binary_compute: What convolutions of binary inputs and kernels are computed in, `"float32"` or `"bfloat16"`, see
            `larq_ssl.models.binary_compute`. No part of the `spec`: the weights are the same.
    # Returns
        An `Encoder`.
    """
    return _build(
        EncoderSpec(name, image_size, binarization, stem, width, preprocessing, classes, rotate_input),
        LayerStore(synchronized=synchronized, drop_path=drop_path, binary_compute=choose(binary_compute).compute),
    )


def build_blank(spec: EncoderSpec, layers: LayerStore | None = None) -> Encoder:
    """Builds an encoder whose kernels are zero, for weights to be loaded; draws no random number.

    # Arguments
        spec: Of the encoder.
        layers: Makes the layers, where they are to be others than usual.
    """
    return _build(spec, layers or LayerStore(blank=True))


def _build(spec: EncoderSpec, layers: LayerStore) -> Encoder:
    if spec.name not in list(ARCHITECTURES):
        reason = zoo.REFUSED.get(str(spec.name), "")
        raise ValueError(f"`name` must be one of {list(ARCHITECTURES)}, not {spec.name!r}{reason}.")
    architecture = ARCHITECTURES[spec.name]
    if spec.binarization not in architecture.binarizations:
        allowed = list(architecture.binarizations)
        raise ValueError(f"`binarization` of {spec.name} must be one of {allowed}, not {spec.binarization!r}.")
    for argument, published in (("stem", "imagenet"), ("width", 1.0)):
        value = getattr(spec, argument)
        if not architecture.adjustable and value != published:
            raise ValueError(f"`{argument}` of {spec.name} must be {published!r}, as it was published, not {value!r}.")
    if spec.rotate_input and not architecture.maps:
        raise ValueError(f"`rotate_input` of {spec.name} must be False, as it pads nothing, not True.")
    if not 0 <= layers.drop_path < 1 or (layers.drop_path and not architecture.drop_path):
        allowed_rate = "at least 0 and below 1" if architecture.drop_path else "0"
        raise ValueError(f"`drop_path` of {spec.name} must be {allowed_rate}, not {layers.drop_path!r}.")
    return Encoder(architecture, spec, layers)
