"""The view policy that the flags of a command describe, also those of `multi_crop_flags` and `jigsaw_flags`."""

from typing import Any

from absl import flags

from larq_ssl.data import views
from larq_ssl.data.views import ViewPolicy

FLAGS = flags.FLAGS

_NUMBERS = {
    "crop_scale": "smallest_global",
    "local_crop_scale": "largest_local",
    "local_size": "local_size",
    "local_views": "local_views",
}
"""Arguments of `ViewPolicy.with_crops`, by the flags that set them."""


def given() -> dict[str, Any]:
    """The numbers of crops among the flags that have a value, by the name of the flag."""
    values = {flag: FLAGS[flag].value for flag in _NUMBERS if flag in FLAGS}
    return {flag: value for flag, value in values.items() if value is not None}


def overrides() -> dict[str, Any]:
    """The same, by the names that `views.policy` has for them."""
    return {_NUMBERS[flag]: value for flag, value in given().items()}


def policy(name: str) -> ViewPolicy:
    """The policy of that name with the numbers of the flags.

    # Raises
        ValueError: If there is none, a number is out of its range, or is one of local views and the policy has none, or
            it has patches that the command has no use for.
    """
    _check_local(views.policy(name, FLAGS.image_size))
    chosen = views.policy(name, FLAGS.image_size, **overrides())
    if "jigsaw" not in FLAGS and chosen.jigsaw is not None:
        raise ValueError(f"The views {name!r} have jigsaw patches, which this command has no use for: take others.")
    return chosen.with_jigsaw() if "jigsaw" in FLAGS and FLAGS.jigsaw else chosen


def _check_local(plain: ViewPolicy) -> None:
    """Tells mistakes by the names of the flags."""
    numbers = given()
    for flag, value in numbers.items():
        if flag.startswith("local_") and value != 0 and not plain.local_views:
            raise ValueError(
                f"--{flag}={value} has no meaning with the views {plain.name!r}, which are all global; leave it out."
            )
    largest = numbers.get("local_crop_scale")
    smallest = max((view.crop_scale[0] for view in plain.local_views if view.crop_scale), default=0.0)
    if largest is not None and largest < smallest:
        raise ValueError(
            f"--local_crop_scale must be at least {smallest}, the smallest local crop of {plain.name!r}, got {largest}."
        )
