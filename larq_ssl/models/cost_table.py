"""What the registered networks cost, side by side, and how that compares with what is published of them."""

import dataclasses
from collections.abc import Iterator

from larq_ssl.models.encoder import BINARIZATIONS, EncoderSpec
from larq_ssl.models.profile import cost_of_built
from larq_ssl.models.published_costs import PUBLISHED, PublishedCost
from larq_ssl.models.registry import ARCHITECTURES, build_blank


@dataclasses.dataclass(frozen=True)
class NetworkCost:
    """Size and work of a network for one image.

    # Arguments
        encoder: Its name in `larq_ssl.models.ARCHITECTURES`.
        binarization: How much of it is binary.
        image_size: Side of the images in pixels.
        feature_dim: Length of the features.
        parameters: Number of weights that training moves.
        binary_macs: BOPs: multiply-accumulates of which both factors have one bit.
        float_macs: FLOPs: all other multiply-accumulates of layers with their weights, and of tokens with tokens.
        memory_bytes: Size of the weights while they train: 32 bits each.
        size_bytes: Packed size: binary weights take one bit, and BatchNorm is fused.
        published: Whether the network has the stem and width under which its figures are published.
    """

    encoder: str
    binarization: str
    image_size: int
    feature_dim: int
    parameters: int
    binary_macs: int
    float_macs: int
    memory_bytes: int
    size_bytes: int
    published: bool = True

    @property
    def ops(self) -> float:
        """OPs, as the papers count them: \\( \\mathrm{BOPs} / 64 + \\mathrm{FLOPs} \\)."""
        return self.binary_macs / 64 + self.float_macs

    def with_classifier(self, classes: int) -> "NetworkCost":
        """With a dense layer of so many classes on the features; of none, the network itself."""
        weights = (self.feature_dim + 1) * classes
        return dataclasses.replace(
            self,
            parameters=self.parameters + weights,
            float_macs=self.float_macs + self.feature_dim * classes,
            memory_bytes=self.memory_bytes + 4 * weights,
            size_bytes=self.size_bytes + 4 * weights,
        )


@dataclasses.dataclass(frozen=True)
class Compared:
    """A published figure, and what is counted here of the same network with the same classifier."""

    published: PublishedCost
    counted: float

    @property
    def equal(self) -> bool:
        """Whether the figure is what is counted here, rounded or cut to as many digits."""
        return self.published.is_met_by(self.counted)


def network_cost(
    name: str, image_size: int = 224, binarization: str | None = None, stem: str = "imagenet", width: float = 1.0
) -> NetworkCost:
    """What a registered network costs without a classifier.

    # Arguments
        name: One of `larq_ssl.models.ARCHITECTURES`.
        image_size: Side of the images in pixels.
        binarization: One of those in which it exists; `None` for the one with the most binary parts.
        stem, width: See `larq_ssl.models.build`.
    # Raises
        ValueError: If there is no such network.
    """
    if binarization is None:
        binarization = most_binary(name)
    network = build_blank(EncoderSpec(name, image_size, binarization, stem, width))
    cost = cost_of_built(network)
    parameters = sum(weight.shape.num_elements() for weight in network.trainable_weights)
    return NetworkCost(
        encoder=name,
        binarization=binarization,
        image_size=image_size,
        feature_dim=network.feature_dim,
        parameters=parameters,
        binary_macs=cost.binary_macs,
        float_macs=cost.float_macs,
        memory_bytes=4 * parameters,
        size_bytes=cost.size_bytes,
        published=(stem, width) == ("imagenet", 1.0),
    )


def most_binary(name: str) -> str:
    """The binarization of a network that leaves the least of it real-valued.

    # Raises
        ValueError: If there is no such network.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"`name` must be one of {list(ARCHITECTURES)}, not {name!r}.")
    return max(ARCHITECTURES[name].binarizations, key=BINARIZATIONS.index)


def compare(costs: list[NetworkCost]) -> Iterator[Compared]:
    """The published figures of networks, where they are counted as they were published: at 224 pixels, at full width.

    # Arguments
        costs: Of networks without a classifier; each figure is compared with the classifier that it is published with.
    """
    for cost in costs:
        if not cost.published or cost.image_size != 224 or cost.binarization != most_binary(cost.encoder):
            continue
        for figure in PUBLISHED:
            if figure.encoder == cost.encoder:
                yield Compared(figure, getattr(cost.with_classifier(figure.classes), figure.figure))
