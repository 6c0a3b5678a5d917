"""What a view policy is: plain data that says how the random views of an image are made."""

import dataclasses

from larq_ssl.data.jigsaw import Jigsaw
from larq_ssl.data.rand_augment import RandAugment

INTERPOLATIONS = ("bilinear", "bicubic")
FAMILIES = ("torchvision", "simclr", "byol")
"""Whose ops: Pillow's, as torchvision uses them; those of SimCLR's released code; those of BYOL's."""
MAX_BLUR_SIGMA = 8.0
SMALLEST_SIDE = 8
"""Of local views, in pixels: a smaller picture shows nothing, and few networks take it."""
SMALLEST_SIMCLR_AREA = 0.1
"""Smaller crops are drawn anew in the SimCLR family."""


@dataclasses.dataclass(frozen=True)
class View:
    """One random view of an image; the defaults are a plain resize of the whole image.

    # Arguments
        size: Side of the view in pixels.
        crop_scale: Range of the crop's proposed area, as a fraction of the image's; `None`: no crop.
        ratio: Range of the crop's aspect ratio (width / height), drawn log-uniformly; uniformly by SimCLR.
        interpolation: "bilinear" or "bicubic", anti-aliased by torchvision alone; the other families have only bicubic.
        flip: Probability of a horizontal flip.
        jitter: Strength of brightness, contrast, saturation (factor `1 - x .. 1 + x`) and hue (shift `-x .. x` turns).
            BYOL's brightness is no factor: `-x .. x` of the full range is added.
        jitter_probability, grey_probability, blur_probability, solarise_probability: Probability of each op.
        blur_sigma: Range of the Gaussian's standard deviation in pixels.
        family: A member of `FAMILIES`: how crops are drawn and resized, and what the colour ops and the blur are. The
            same numbers give other views in each: see `crops` and `augment`, `crops_tf` and `augment_tf`.
        rand_augment: Further ops, drawn anew for each view, in torchvision's family alone; `None`: none. Grey comes
            after them, last of all.
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
    family: str = "torchvision"
    rand_augment: RandAugment | None = None

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
        self._check_family()

    def _check_family(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"family is {self.family!r}: it must be one of {FAMILIES}")
        if self.family != "torchvision" and self.interpolation != "bicubic":
            raise ValueError(f"interpolation is {self.interpolation!r}: family {self.family!r} has only 'bicubic'")
        if self.family == "simclr" and self.crop_scale is not None and self.crop_scale[1] < SMALLEST_SIMCLR_AREA:
            raise ValueError(
                f"crop_scale is {self.crop_scale}: family 'simclr' draws crops of less than {SMALLEST_SIMCLR_AREA} anew"
            )
        if self.rand_augment is not None and self.family != "torchvision":
            raise ValueError(f"rand_augment is {self.rand_augment}: family {self.family!r} has none, it must be None")
        if self.rand_augment is not None and self.size < SMALLEST_SIDE:
            raise ValueError(f"size is {self.size}: it must be at least {SMALLEST_SIDE} with RandAugment")


@dataclasses.dataclass(frozen=True)
class ViewPolicy:
    """The views of an image that make up one training example.

    # Arguments
        name: Name of the policy.
        global_views: Views of the first size; all of one size.
        local_views: Views of another size (multi-crop), all of one size. They are numbered after the global views.
        alpha: Share of the pairs of two global views in the loss that the policy is published with, where a method
            compares views by pairs; `None`: all pairs count alike. See `larq_ssl.losses.view_pairs`.
        jigsaw: Patches of one more crop, which is numbered last; `None`: none.
    """

    name: str
    global_views: tuple[View, ...]
    local_views: tuple[View, ...] = ()
    alpha: float | None = None
    jigsaw: Jigsaw | None = None

    def __post_init__(self) -> None:
        if not self.global_views:
            raise ValueError("global_views is empty: a policy needs at least one")
        for name in ("global_views", "local_views"):
            if len({view.size for view in getattr(self, name)}) > 1:
                raise ValueError(f"{name} differ in size: all views of one group must have one size")
        families = {view.family for view in self.global_views + self.local_views}
        if len(families) > 1:
            raise ValueError(f"family is {' and '.join(sorted(families))}: all views of a policy must have the same")
        if len({view.rand_augment for view in self.global_views + self.local_views}) > 1:
            raise ValueError("rand_augment differs: all views of a policy must have the same")
        if self.jigsaw is not None and families != {"torchvision"}:
            raise ValueError(f"jigsaw is {self.jigsaw}: its crops are torchvision's, those of {self.name} are not")
        if self.alpha is not None and not 0.0 <= self.alpha <= 1.0:
            raise ValueError(f"alpha is {self.alpha}: it must lie in [0, 1]")

    @property
    def groups(self) -> dict[str, tuple[View, ...]]:
        """The views in the order of their numbers, those of one size together, by what a batch calls them."""
        crop: tuple[View, ...] = ()
        if self.jigsaw is not None:
            jigsaw = self.jigsaw
            crop = (View(jigsaw.size, jigsaw.crop_scale, interpolation="bilinear", flip=jigsaw.flip),)
        groups = {"global": self.global_views, "local": self.local_views, "patches": crop}
        return {name: group for name, group in groups.items() if group}

    @property
    def views(self) -> tuple[View, ...]:
        """All views in the order of their numbers, the crop of the patches last."""
        return sum(self.groups.values(), ())

    def with_jigsaw(self) -> "ViewPolicy":
        """The same policy with patches of the size that fits, flipped as its views are; its own if it has any."""
        first = self.global_views[0]
        return dataclasses.replace(self, jigsaw=self.jigsaw or Jigsaw.for_views(first.size, first.flip))

    def first(self, count: int) -> "ViewPolicy":
        """The same policy with its first global views alone: the same pixels of these, and no work for the others.

        # Raises
            ValueError: If there are not so many.
        """
        if not 1 <= count <= len(self.global_views):
            raise ValueError(f"count is {count}: {self.name} has {len(self.global_views)} global views")
        return ViewPolicy(self.name, self.global_views[:count])

    def with_views(self, count: int) -> "ViewPolicy":
        """The same policy with so many global views, all like those that it has.

        # Raises
            ValueError: If its global views differ, so that there is no saying what a further one would be.
        """
        if count < 1:
            raise ValueError(f"count is {count}: it must be at least 1")
        if len(set(self.global_views)) > 1:
            raise ValueError(f"count is {count}: the global views of {self.name} differ, which are to be alike")
        return dataclasses.replace(self, global_views=self.global_views[:1] * count)

    def with_crops(
        self,
        smallest_global: float | None = None,
        largest_local: float | None = None,
        local_size: int | None = None,
        local_views: int | None = None,
    ) -> "ViewPolicy":
        """The same policy with other crops; what is `None` stays.

        # Arguments
            smallest_global: Lower end of the global views' `crop_scale` (S_g in SSLight).
            largest_local: Upper end of the local views' `crop_scale` (S_l).
            local_size: Side of the local views in pixels (LC).
            local_views: Number of local views (N_l). 0: none, and then their other numbers do not matter.
        # Raises
            ValueError: If a number is out of its range, or is one of local views and the policy has none.
        """
        local = self.local_views
        if local_views == 0:
            local, largest_local, local_size = (), None, None
        given = {"largest_local": largest_local, "local_size": local_size, "local_views": local_views or None}
        for name, value in given.items():
            if value is not None and not local:
                raise ValueError(f"{name} is {value}: {self.name} has no local views")
        if local_views is not None and local_views < 0:
            raise ValueError(f"local_views is {local_views}: it must be at least 0")
        if local_size is not None and not SMALLEST_SIDE <= local_size <= self.global_views[0].size:
            raise ValueError(
                f"local_size is {local_size}: it must lie in [{SMALLEST_SIDE}, {self.global_views[0].size}], "
                "the latter the size of the global views"
            )
        if local_views:
            local = local[:1] * local_views
        local = tuple(dataclasses.replace(view, size=local_size or view.size) for view in local)
        return dataclasses.replace(
            self,
            global_views=tuple(_with_end(view, 0, smallest_global, "smallest_global") for view in self.global_views),
            local_views=tuple(_with_end(view, 1, largest_local, "largest_local") for view in local),
            alpha=self.alpha if local else None,
        )


def _with_end(view: View, end: int, share: float | None, name: str) -> View:
    """A view with another smallest (`end` 0) or largest (1) crop."""
    if share is None:
        return view
    low, high = view.crop_scale or (1.0, 1.0)
    if end == 0 and not 0.0 < share <= high:
        raise ValueError(f"{name} is {share}: it must lie in (0, {high}]")
    if end == 1 and not low <= share <= 1.0:
        raise ValueError(f"{name} is {share}: it must lie in [{low}, 1]")
    return dataclasses.replace(view, crop_scale=(share, high) if end == 0 else (low, share))
