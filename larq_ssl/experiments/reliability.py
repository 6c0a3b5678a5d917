"""What a run survives, as a page: `python -m larq_ssl.experiments.reliability --faults=runs/faults --endurance=<name>`.

Makes `docs/reliability.md` of what `make test-faults` and `python -m larq_ssl.experiments.endurance` have measured.
"""

import pathlib

from absl import flags

from larq_ssl.experiments import common
from larq_ssl.experiments.reliability_page import TITLE, outcome, page, read
from larq_ssl.files import read_object, write_whole

_FAULTS = flags.DEFINE_string("faults", "runs/faults", "Folder with the results of `make test-faults`.")
_ENDURANCE = flags.DEFINE_string("endurance", None, "Name of what `endurance` has written, without .json.")
_OUT = flags.DEFINE_string("out", "docs/reliability.md", "The page; an older one is replaced.")


def main() -> int:
    with common.user_errors():
        out = pathlib.Path(_OUT.value)
        if out.exists() and not (out.is_file() and out.read_bytes().startswith(TITLE.encode())):
            raise ValueError(f"--out={out} is another file than such a page; choose another name.")
        common.refuse_no_place("out", _OUT.value, is_file=True)
        measured = None
        if _ENDURANCE.value is not None:
            file = pathlib.Path(f"{_ENDURANCE.value}.json")
            if not file.is_file():
                raise ValueError(
                    f"--endurance={_ENDURANCE.value} must be the --out of `endurance`: there is no {file}."
                )
            measured = read_object(file, "machine", "measured")
        faults = pathlib.Path(_FAULTS.value)
        write_whole(out, page(read(faults), outcome(faults), measured), overwrite=True)
    common.say(f"{out} is written.")
    return 0


if __name__ == "__main__":
    common.run(main)
