"""From where a run goes on."""

from larq_ssl.callbacks.epoch_rows import EpochRows
from larq_ssl.checkpoints import Checkpoints
from larq_ssl.experiments import common
from larq_ssl.experiments.run_folder import RunFolder


def restore(run: RunFolder, checkpoints: Checkpoints) -> int:
    """The step from which the run goes on; a run that has lost all that it saved is not begun anew unasked."""
    # Damaged ones are told before anything is restored.
    EpochRows(run.diagnostics_file).read()
    trained = max((row["step"] for row in EpochRows(run.metrics_file).read().values()), default=0)
    # The line of an epoch is written after the checkpoints within it, and before the one at its end.
    every = int(run.flags().get("checkpoint_every", common.CHECKPOINT_EVERY))
    implied = max(trained - 1, 0) // every * every
    done, reached = checkpoints.restore() or 0, max(run.saved_step(), implied)
    if done == 0 and reached:
        raise ValueError(
            f"The run in {run.path} has saved step {reached:,}, but no checkpoint lies in {run.checkpoints}: put it "
            "back there, or begin anew with --fresh, which moves the rest aside."
        )
    if done < reached:
        common.say(f"{run.path}: the checkpoint of step {reached:,} is lost; the one of step {done:,} is there.")
    return done
