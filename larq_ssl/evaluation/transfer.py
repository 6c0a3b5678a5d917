"""Transfer to other data sets: which data, and by which published protocol.

Images of VOC2007 have several labels: their classifier has a sigmoid per class (`losses.sigmoid_cross_entropy`), and
what is reported is the mean average precision over the classes, difficult images left out. VOC2007 by SVMs is another
protocol (`larq_ssl.evaluation.svm`).

Differences from the papers: S2-BNN does not say which average precision it reports of VOC2007: both are there, that by
the area (`map`), by which runs are chosen, and that at eleven points.
"""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class TransferData:
    """A data set of the papers' tables of transfer. What is reported is top-1, of VOC2007 the mean average precision.

    # Arguments
        name: What it is called here.
        title: What it is called by people.
        classes: Number of classes.
        tfds: Its name in TensorFlow Datasets, `None` where that has it not: then it is read from a folder.
        splits: What is trained and what is measured on, as TensorFlow Datasets or the data set's authors call them.
        folder: What reads it where it is not of TensorFlow Datasets: `folder`, or `voc_folder` for images with several
            labels each.
    """

    name: str
    title: str
    classes: int
    tfds: str | None
    splits: tuple[str, str]
    folder: str = "folder"


DATA = {
    data.name: data
    for data in (
        TransferData("cifar10", "CIFAR-10", 10, "cifar10", ("train", "test")),
        TransferData("cifar100", "CIFAR-100", 100, "cifar100", ("train", "test")),
        TransferData("cub200", "CUB-200-2011", 200, "caltech_birds2011", ("train", "test")),
        TransferData("birdsnap", "Birdsnap", 500, None, ("train", "test")),
        # `placesfull` is its successor, of other classes and without a validation split.
        TransferData("places205", "Places205", 205, None, ("train", "val")),
        TransferData("voc/2007", "VOC2007", 20, "voc/2007", ("trainval", "test"), "voc_folder"),
        TransferData("inat2018", "iNaturalist 2018", 8142, "i_naturalist2018", ("train", "validation")),
    )
}


@dataclasses.dataclass(frozen=True)
class TransferProtocol:
    """How a paper measures transfer.

    # Arguments
        name: Name of the protocol.
        fine_tuning: Preset of `fine_tuning.PRESETS`, or `None` if the encoder stays frozen.
        linear: Preset of `linear.PRESETS` for a frozen encoder, or `None`.
        linear_of: Presets for data sets that have another one.
        epochs: Of data sets that have others than the preset.
        image_size: Side of the images in pixels, also of CIFAR's.
        data: For which data sets it is published.
    """

    name: str
    fine_tuning: str | None = None
    linear: str | None = None
    linear_of: Mapping[str, str] = dataclasses.field(default_factory=dict)
    epochs: Mapping[str, int] = dataclasses.field(default_factory=dict)
    image_size: int = 224
    data: tuple[str, ...] = ()

    def linear_preset(self, data: str) -> str | None:
        """The preset of linear evaluation for a data set, `None` for fine-tuning."""
        return self.linear_of.get(data, self.linear)


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        # BSSL, App. A.1: as on ImageNet, and for scenes 28 epochs with 0.01, a tenth of it every 7.
        TransferProtocol(
            "bssl",
            linear="bssl",
            linear_of={"places205": "places205"},
            data=("cifar10", "cifar100", "cub200", "birdsnap", "places205"),
        ),
        # S2-BNN, Sec. 4 and Table 5.
        TransferProtocol(
            "s2bnn_transfer",
            fine_tuning="s2bnn_transfer",
            data=("cifar10", "cifar100", "cub200", "birdsnap", "voc/2007"),
        ),
        TransferProtocol("s2bnn_linear", linear="s2bnn", data=("cifar10", "cifar100", "cub200", "birdsnap")),
        # MSBReg, supplement, Sec. 2.4.
        TransferProtocol(
            "msbreg", linear="msbreg_transfer", epochs={"places205": 28, "inat2018": 84}, data=("places205", "inat2018")
        ),
    )
}
