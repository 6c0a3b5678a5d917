"""What papers and projects say their networks cost, for images of 224 pixels.

Not every count has the same terms in it. Larq counts what layers do with their weights, which is what ReActNet and
S2-BNN count for their networks. A figure that is not met has a note that says why, as far as its source tells.
"""

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType

FIGURES = {
    "parameters": "parameters",
    "binary_macs": "BOPs",
    "float_macs": "FLOPs",
    "ops": "OPs",
    "memory_bytes": "memory",
    "size_bytes": "packed size",
}
"""What is published, by the attributes of `cost_table.NetworkCost`."""

_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class PublishedCost:
    """A published figure.

    # Arguments
        encoder: Name of the network.
        figure: One of `FIGURES`.
        value: The figure.
        digit: What one more in its last digit would be; 1 for a count that is published in full.
        source: Where it stands.
        classes: Of the classifier that it includes; 0 without one.
        note: Why what is counted here is another number; empty if it is the same.
    """

    encoder: str
    figure: str
    value: float
    digit: float
    source: str
    classes: int = 1000
    note: str = ""

    def is_met_by(self, counted: float) -> bool:
        """Whether a count is the figure, rounded to its last digit or cut off behind it (papers do either)."""
        digits, figure = counted / self.digit, round(self.value / self.digit)
        return figure in (math.floor(digits), math.floor(digits + 0.5))


def _counts(
    encoder: str, source: str, digits: Mapping[str, float] = MappingProxyType({}), **values: float
) -> list[PublishedCost]:
    """Several figures of one source, by their kinds, those without a digit published in full."""
    return [
        PublishedCost(encoder, kind, value, digits.get(kind, 1), source, note=_NOTES.get((encoder, kind), ""))
        for kind, value in values.items()
    ]


_PER_OUTPUT = (
    "it would be, with one multiplication for each of the 1,505,280 outputs of binary convolutions; scales and "
    "BatchNorm are not counted here"
)
_UNLISTED = "its terms are not listed; all layers with kernels are counted here"
_NORMS = (
    "its terms are not listed; what is more than here is probably the work of norms and activations, which have no "
    "kernels and are not counted here"
)
_NOTES = {
    ("birealnet_18", "float_macs"): _PER_OUTPUT,
    ("xnor_18", "binary_macs"): (
        "it would be, with the 19,267,584 of the 1x1 convolutions in shortcuts, which are real-valued here"
    ),
    ("xnor_18", "float_macs"): f"scaling by the means of the inputs is left out here, as in Larq Zoo; {_UNLISTED}",
    ("xnor_18", "ops"): "follows from its BOPs and FLOPs",
    ("zoo:RealToBinaryNet", "float_macs"): _UNLISTED,
    ("zoo:RealToBinaryNet", "ops"): "follows from its FLOPs",
}
_REACTNET, _S2BNN = "ReActNet, released code", "S2-BNN, Table 4"
_DIGITS = {"binary_macs": 1e7, "float_macs": 1e6, "ops": 1e6}

_BINARY = [
    *_counts("reactnet_a", _REACTNET, parameters=29_343_592, binary_macs=4_816_896_000, float_macs=11_862_016),
    *_counts("reactnet_a", _REACTNET, ops=87_126_016),
    *_counts("reactnet_a", _S2BNN, _DIGITS, binary_macs=4.82e9, float_macs=0.12e8, ops=0.87e8),
    *_counts("reactnet_18", _REACTNET, parameters=11_704_424, binary_macs=1_676_279_808, float_macs=137_793_536),
    *_counts("reactnet_18", _REACTNET, ops=163_985_408),
    PublishedCost("reactnet_a_burn", "parameters", 29_368_192, 1, "BURN, released code", classes=0),
    *_counts("birealnet_18", _S2BNN, _DIGITS, binary_macs=1.68e9, float_macs=1.39e8, ops=1.63e8),
    *_counts("xnor_18", _S2BNN, _DIGITS, binary_macs=1.70e9, float_macs=1.41e8, ops=1.67e8),
    *_counts("zoo:RealToBinaryNet", _S2BNN, _DIGITS, binary_macs=1.68e9, float_macs=1.56e8, ops=1.83e8),
]

# The Zoo writes MB for 2^20 bytes.
_ZOO = [
    PublishedCost(f"zoo:{name}", "size_bytes", size * _MIB, 0.01 * _MIB, "Larq Zoo, list of models (in MiB)")
    for name, size in (
        ("QuickNetSmall", 4.00),
        ("QuickNet", 4.17),
        ("QuickNetLarge", 5.40),
        ("RealToBinaryNet", 5.13),
        ("BinaryDenseNet45", 7.35),
        ("BinaryDenseNet37Dilated", 5.13),
        ("BinaryDenseNet37", 5.13),
        ("MeliusNet22", 3.88),
        ("BinaryDenseNet28", 4.04),
        ("BinaryResNetE18", 4.00),
        ("BiRealNet", 4.00),
    )
]

_SSLIGHT = [
    cost
    for name, table, millions, giga, digit, notes in (
        ("mobilenet_v2", 4, 2.2, 0.31, 1e7, ("", _NORMS)),
        ("resnet_18", 4, 11.2, 1.8, 1e8, ("", "")),
        ("resnet_34", 4, 21.3, 3.67, 1e7, ("", _NORMS)),
        ("resnet_50", 4, 23.5, 4.12, 1e7, ("", _NORMS)),
        (
            "vit_tiny_32",
            5,
            5.5,
            0.31,
            1e7,
            ("the paper has the number of ViT-Ti/16, whose patches are smaller, here too", ""),
        ),
        ("vit_tiny_16", 5, 5.5, 1.26, 1e7, ("", _NORMS)),
        ("vit_small_16", 5, 21.7, 4.61, 1e7, ("", _NORMS)),
    )
    for cost in (
        PublishedCost(name, "parameters", millions * 1e6, 1e5, f"SSLight, Table {table}", 0, notes[0]),
        PublishedCost(name, "float_macs", giga * 1e9, digit, f"SSLight, Table {table}", 0, notes[1]),
    )
]

_SIMCLR = [
    PublishedCost(f"simclr_resnet_{name}", "parameters", millions * 1e6, 1e6, "SimCLRv2, Table 1", classes=0)
    for name, millions in (("50", 24), ("50_sk", 35), ("101", 43), ("101_sk", 65), ("152", 58), ("152_sk", 89))
]

PUBLISHED: tuple[PublishedCost, ...] = (*_BINARY, *_ZOO, *_SSLIGHT, *_SIMCLR)
