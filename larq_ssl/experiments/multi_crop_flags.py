"""The flags of multi-crop views, for the commands that train with local views; `chosen_views` reads them."""

from absl import flags

from larq_ssl.data.views import ViewPolicy

FLAGS = flags.FLAGS

flags.DEFINE_float(
    "local_crop_scale", None, "Largest local crop as a share of the image's area, instead of the policy's.", 0.01, 1
)
flags.DEFINE_integer("local_size", None, "Side of the local views in pixels, instead of the policy's.", 8)
flags.DEFINE_integer(
    "local_views", None, "Local views per image, instead of the policy's. 0: none; other flags of theirs are idle.", 0
)
flags.DEFINE_float(
    "alpha",
    None,
    "Share of the global-global pairs in the loss, instead of the policy's: 0.4 with SSLight's, with others all pairs "
    "count alike.",
    0,
    1,
)


def alpha(policy: ViewPolicy) -> float | None:
    """What `--alpha` or else the policy says; `None` for a mean over all pairs, also where nothing is to be shared."""
    if not policy.local_views:
        return None
    return policy.alpha if FLAGS.alpha is None else FLAGS.alpha
