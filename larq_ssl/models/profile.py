"""What an encoder costs, as Larq counts it."""

import dataclasses

import larq

from larq_ssl.models.encoder import Encoder
from larq_ssl.models.registry import build_blank


@dataclasses.dataclass(frozen=True)
class Cost:
    """Size and work of an encoder for one image.

    # Attributes
        binary_macs: Multiply-accumulates of which both factors have one bit.
        float_macs: All others.
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
    counts = profile(encoder, image_size)
    binary_macs = counts.op_count("mac", 1)
    return Cost(
        binary_macs=binary_macs,
        float_macs=counts.op_count("mac") - binary_macs,
        size_bytes=counts.memory // 8,
    )


def summary_text(encoder: Encoder, image_size: int) -> str:
    """The table of `larq.models.summary` for an encoder at a given image size."""
    lines: list[str] = []
    larq.models.summary(_twin(encoder, image_size), print_fn=lines.append)
    return "\n".join(lines) + "\n"


def _twin(encoder: Encoder, image_size: int) -> Encoder:
    # Larq reads `layer.output_shape`, which Keras refuses for layers shared between sizes.
    return build_blank(dataclasses.replace(encoder.spec, image_size=image_size))
