"""PyTorch checkpoints as finished runs: `python -m larq_ssl.experiments.import_torch --checkpoint=... --out=...`.

What comes out is taken wherever a run is: `--run=` of the probes, `--teacher=`, `--stage1=`.
"""

from absl import flags

from larq_ssl.experiments import common
from larq_ssl.experiments.imported_run import convert
from larq_ssl.torch_import import KINDS

FLAGS = flags.FLAGS

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "File of torch.save: .pth, .pt or .pth.tar.")
_OUT = flags.DEFINE_string("out", None, "Folder to be made, laid out as that of a finished run.")
_KIND = flags.DEFINE_enum("kind", None, list(KINDS), "What wrote the file; told by the names of its tensors.")
_LICENCE = flags.DEFINE_string("licence", None, "Licence of the weights, for LICENSES.md; unknown if left out.")
_BINARIZATION = flags.DEFINE_enum(
    "binarization", None, ["activations", "full"], "Step 1 or 2 of a binary network, where its tensors do not tell."
)
_CLASSIFIER = flags.DEFINE_bool("classifier", False, "Keep the classifier: the encoder gives logits, not features.")


def main() -> int:
    with common.user_errors():
        for flag in (_CHECKPOINT, _OUT):
            if not flag.value:
                raise ValueError(f"--{flag.name} is missing.")
        lines = convert(
            _CHECKPOINT.value, _OUT.value, _KIND.value, _LICENCE.value, _BINARIZATION.value, _CLASSIFIER.value
        )
        for line in lines:
            common.say(line)
        common.say(f"{_OUT.value}: finished; give it as --run, --teacher or --stage1.")
    return 0


if __name__ == "__main__":
    common.run(main)
