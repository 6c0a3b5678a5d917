"""From where a run goes on."""

from larq_ssl.callbacks.epoch_rows import EpochRows
from larq_ssl.checkpoints import Checkpoints
from larq_ssl.experiments import common
from larq_ssl.experiments.run_folder import RunFolder


def restore(run: RunFolder, checkpoints: Checkpoints) -> int:
    """The step from which the run goes on; a run that has lost all that it saved is not begun anew unasked."""
    # Damaged ones are told before anything is restored.
    for file in (run.metrics_file, run.diagnostics_file):
        EpochRows(file).read()
    done, reached = checkpoints.restore() or 0, run.saved_step()
    if done == 0 and reached:
        raise ValueError(
            f"The run in {run.path} has saved step {reached:,}, but no checkpoint lies in {run.checkpoints}: put it "
            "back there, or begin anew with --fresh, which moves the rest aside."
        )
    if done < reached:
        common.say(f"{run.path}: the checkpoint of step {reached:,} is lost; the one of step {done:,} is there.")
    return done
