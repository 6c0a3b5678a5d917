"""The flag of jigsaw patches, for the commands that have a use for them; `chosen_views` reads it."""

from absl import flags

flags.DEFINE_bool(
    "jigsaw", False, "Nine patches of a third crop besides the views, and a branch that learns from them."
)
