"""What an encoder costs, as Larq counts it."""

import dataclasses

import larq

from larq_ssl.models.encoder import Encoder
from larq_ssl.models.registry import build_blank
from larq_ssl.models.vit_layers import SelfAttention


@dataclasses.dataclass(frozen=True)
class Cost:
    """Size and work of an encoder for one image.

    # Attributes
        binary_macs: Multiply-accumulates of which both factors have one bit.
        float_macs: All others that layers make with their weights, and those of tokens with tokens.
        size_bytes: Size of the weights, binary ones packed and BatchNorm fused, as Larq counts it.
    """

    binary_macs: int
    float_macs: int
    size_bytes: int

    @property
    def ops(self) -> float:
        """Operations as the papers count them: 64 binary multiply-accumulates are one."""
        return self.binary_macs / 64 + self.float_macs


def profile(encoder: Encoder, image_size: int) -> larq.models.ModelProfile:
    """Larq's profile of an encoder at a given image size."""
    return larq.models.ModelProfile(_twin(encoder, image_size))


def cost(encoder: Encoder, image_size: int) -> Cost:
    """What an encoder costs at a given image size."""
    return cost_of_built(_twin(encoder, image_size))


def summary_text(encoder: Encoder, image_size: int) -> str:
    """The table of `larq.models.summary` for an encoder at a given image size.

    Larq counts no work where there is no weight: the rows of attention have a question mark, the sum is without them.
    """
    return _summary_text(_twin(encoder, image_size))


def summary_and_cost(encoder: Encoder, image_size: int) -> tuple[str, Cost]:
    """Both, in not much more time than one of them: the network is built again only once."""
    twin = _twin(encoder, image_size)
    return _summary_text(twin), cost_of_built(twin)


def cost_of_built(network: Encoder) -> Cost:
    """What a network costs at the image size that it was built for, alone: none of its layers is shared with another.

    It is not built again, as `cost` does for networks of any size.
    """
    counts = larq.models.ModelProfile(network)
    binary_macs = counts.op_count("mac", 1)
    return Cost(
        binary_macs=binary_macs,
        float_macs=counts.op_count("mac") - binary_macs + _attention_macs(network),
        size_bytes=counts.memory // 8,
    )


def _summary_text(twin: Encoder) -> str:
    lines: list[str] = []
    larq.models.summary(twin, print_fn=lines.append)
    return "\n".join(lines) + "\n"


def _attention_macs(network: Encoder) -> int:
    shapes = [layer.output_shape for layer in network.layers if isinstance(layer, SelfAttention)]
    # Each token with each, once as query and key and once as share and value.
    return sum(2 * tokens**2 * channels for _, tokens, channels in shapes)


def _twin(encoder: Encoder, image_size: int) -> Encoder:
    # Larq reads `layer.output_shape`, which Keras refuses for layers shared between sizes.
    return build_blank(dataclasses.replace(encoder.spec, image_size=image_size))
