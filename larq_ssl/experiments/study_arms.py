"""What a study trains: methods, and the arms of each."""

import dataclasses

_OF_METHODS = {
    "bssl": "BSSL",
    "s2bnn_contrastive": "S2-BNN contrastive",
    "s2bnn_contrastive_guided": "S2-BNN contrastive + guided",
    "s2bnn_guided": "S2-BNN guided",
}
_MULTI_CROP = {"dino": "DINO", "swav": "SwAV", "moco_star": "MoCo-v2*"}
_OF_PAIRS = {"simclr": "SimCLR", "infomin": "InfoMin"}
_BOOTSTRAP = {"byol": "BYOL", "msbreg": "MSBReg"}
_WITH_LABELS = {"supervised": "supervised training"}
_OF_VIEWS = {"": "", "_baseline": " (baseline)", "_sslight": " (SSLight)"}
METHODS = (
    _OF_METHODS
    | _OF_PAIRS
    | _BOOTSTRAP
    | {
        f"{method}{views}": f"{title}{words}"
        for method, title in _MULTI_CROP.items()
        for views, words in _OF_VIEWS.items()
    }
    | _WITH_LABELS
)
ARMS = {"float": "float", "stage1": "stage 1", "stage2": "stage 2", "one_stage": "in one stage"}

_COMMANDS = ("bssl", "s2bnn", *_OF_PAIRS, *_BOOTSTRAP, *_MULTI_CROP, *_WITH_LABELS)
# What learns without a teacher that is trained before.
_ALONE = ("s2bnn_contrastive", *_OF_PAIRS, *_BOOTSTRAP, *_MULTI_CROP, *_WITH_LABELS)


@dataclasses.dataclass(frozen=True)
class Arm:
    """One network that a study trains.

    Attributes:
        method: Of `METHODS`.
        arm: Of `ARMS`.
    """

    method: str
    arm: str

    @property
    def name(self) -> str:
        """Of its run folder; a stage 2 lies beside its stage 1."""
        return self.arm if self.method == "bssl" else f"{self.method}/{self.arm}"

    @property
    def title(self) -> str:
        """What the table calls it."""
        return f"{METHODS[self.method]} {ARMS[self.arm]}"

    @property
    def command(self) -> str:
        """That trains it."""
        return next(command for command in _COMMANDS if f"{self.method}_".startswith(f"{command}_"))

    @property
    def recipe(self) -> str:
        """Without its folder. A float network is what most commands train unless told a stage."""
        return self.method if self.arm == "float" else f"{self.method}_{self.arm}"

    @property
    def needs_teacher(self) -> bool:
        return not (self.method in _ALONE or self.command in _ALONE)
