"""View policies: which random views of an image a method is trained on, as data.

The order of the ops is crop, flip, jitter, grey, blur, solarise, for every policy. (MoCo v2 flips last: the ops between
are the same for an image and its mirror image, so the views are too.)
"""

import dataclasses
from collections.abc import Callable
from typing import Any

INTERPOLATIONS = ("bilinear", "bicubic")


@dataclasses.dataclass(frozen=True)
class View:
    """One random view of an image; the defaults are a plain resize of the whole image.

    # Arguments
        size: Side of the view in pixels.
        crop_scale: Range of the crop's proposed area, as a fraction of the image's; `None`: no crop.
        ratio: Range of the crop's aspect ratio (width / height), drawn log-uniformly.
        interpolation: "bilinear" or "bicubic", both anti-aliased.
        flip: Probability of a horizontal flip.
        jitter: Strength of brightness, contrast, saturation (factor `1 - x .. 1 + x`) and hue (shift `-x .. x` turns).
        jitter_probability, grey_probability, blur_probability, solarise_probability: Probability of each op.
        blur_sigma: Range of the Gaussian's standard deviation in pixels.
    """

    size: int
    crop_scale: tuple[float, float] | None = None
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bicubic"
    flip: float = 0.0
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    jitter_probability: float = 0.0
    grey_probability: float = 0.0
    blur_probability: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarise_probability: float = 0.0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}: it must be at least 1")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation is {self.interpolation!r}: it must be one of {INTERPOLATIONS}")
        for name in (
            "flip",
            "jitter_probability",
            "grey_probability",
            "blur_probability",
            "solarise_probability",
        ):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must lie in [0, 1]")
        if self.crop_scale is not None and not 0.0 < self.crop_scale[0] <= self.crop_scale[1] <= 1.0:
            raise ValueError(f"crop_scale is {self.crop_scale}: it must be an increasing pair in (0, 1]")
        if not 0.0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio is {self.ratio}: it must be an increasing pair of positive numbers")
        if not 0.0 <= self.blur_sigma[0] <= self.blur_sigma[1] <= MAX_BLUR_SIGMA:
            raise ValueError(f"blur_sigma is {self.blur_sigma}: it must be an increasing pair in [0, {MAX_BLUR_SIGMA}]")
        if len(self.jitter) != 4 or min(self.jitter) < 0.0 or self.jitter[3] > 0.5:
            raise ValueError(f"jitter is {self.jitter}: it must be 4 numbers of at least 0, hue at most 0.5")


MAX_BLUR_SIGMA = 8.0


@dataclasses.dataclass(frozen=True)
class ViewPolicy:
    """The views of an image that make up one training example.

    # Arguments
        name: Name of the policy.
        global_views: Views of the first size; all of one size.
        local_views: Views of another size (multi-crop), all of one size. They are numbered after the global views.
    """

    name: str
    global_views: tuple[View, ...]
    local_views: tuple[View, ...] = ()

    def __post_init__(self) -> None:
        if not self.global_views:
            raise ValueError("global_views is empty: a policy needs at least one")
        for name in ("global_views", "local_views"):
            if len({view.size for view in getattr(self, name)}) > 1:
                raise ValueError(f"{name} differ in size: all views of one group must have one size")

    def first(self, count: int) -> "ViewPolicy":
        """The same policy with its first global views alone: the same pixels of these, and no work for the others.

        # Raises
            ValueError: If there are not so many.
        """
        if not 1 <= count <= len(self.global_views):
            raise ValueError(f"count is {count}: {self.name} has {len(self.global_views)} global views")
        return ViewPolicy(self.name, self.global_views[:count])


def _moco_v2(size: int) -> ViewPolicy:
    """MoCo v2's "aug+", as in its released code."""
    view = View(
        size,
        crop_scale=(0.2, 1.0),
        interpolation="bilinear",
        flip=0.5,
        jitter=(0.4, 0.4, 0.4, 0.1),
        jitter_probability=0.8,
        grey_probability=0.2,
        blur_probability=0.5,
    )
    return ViewPolicy("moco_v2", (view, view))


def _s2bnn(size: int) -> ViewPolicy:
    """S2-BNN's "lite" augmentation: MoCo v2's with less jitter and blur (Sec. 4 and 6.1)."""
    view = dataclasses.replace(_moco_v2(size).global_views[0], jitter_probability=0.6, blur_probability=0.2)
    return ViewPolicy("s2bnn", (view, view))


def _bssl(size: int) -> ViewPolicy:
    """What BSSL's released code does; the paper states none of it."""
    view = View(
        size,
        crop_scale=(0.08, 1.0),
        flip=0.5,
        jitter=(0.4, 0.4, 0.4, 0.1),
        jitter_probability=0.6,
        grey_probability=0.2,
        blur_probability=0.2,
    )
    return ViewPolicy("bssl", (view, view))


def _cifar(size: int) -> ViewPolicy:
    """BSSL's for images of 32 pixels: larger crops and no blur, which erases what such an image shows."""
    view = dataclasses.replace(_bssl(size).global_views[0], crop_scale=(0.2, 1.0), blur_probability=0.0)
    return ViewPolicy("cifar", (view, view))


def _digits(size: int) -> ViewPolicy:
    """For handwritten digits: what a flip, a hue or a small crop would change is the digit itself."""
    view = View(
        size,
        crop_scale=(0.5, 1.0),
        jitter=(0.4, 0.4, 0.0, 0.0),
        jitter_probability=0.8,
        blur_probability=0.2,
        blur_sigma=(0.1, 1.0),
    )
    return ViewPolicy("digits", (view, view))


def _evaluation(size: int) -> ViewPolicy:
    """One plain view. (Probes use `pipeline.image_batches`, which also crops to the centre.)"""
    return ViewPolicy("evaluation", (View(size),))


POLICIES: dict[str, Callable[[int], ViewPolicy]] = {
    "moco_v2": _moco_v2,
    "s2bnn": _s2bnn,
    "bssl": _bssl,
    "cifar": _cifar,
    "digits": _digits,
    "evaluation": _evaluation,
}


def policy(name: str, image_size: int, **overrides: Any) -> ViewPolicy:
    """The policy of that name, with some fields of all its views changed.

    # Arguments
        name: A key of `POLICIES`.
        image_size: Side of the global views in pixels.
        overrides: Fields of `View`, such as `jitter_probability=0.5`.
    """
    if name not in POLICIES:
        raise ValueError(f"policy is {name!r}: it must be one of {sorted(POLICIES)}")
    fields = [field.name for field in dataclasses.fields(View) if field.name != "size"]
    for key in overrides:
        if key not in fields:
            raise ValueError(f"{key!r} is not a field of a view: the fields are {fields}")
    base = POLICIES[name](image_size)
    return dataclasses.replace(
        base,
        global_views=tuple(dataclasses.replace(view, **overrides) for view in base.global_views),
        local_views=tuple(dataclasses.replace(view, **overrides) for view in base.local_views),
    )
