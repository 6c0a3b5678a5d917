"""Multi-crop policies: two global views and several local ones, as ops of a method and numbers of crops.

The numbers have the names of SSLight: global crops of area `(S_g, 1)`, resized to GC = 224 pixels, local crops of area
`(0.05, S_l)`, resized to LC, N_l of them. At another image size LC is in proportion. SSLight's own also have its
alpha, the share of the pairs of global views in the loss.

Differences from the papers: images of 32 pixels are not blurred and those of digits neither flipped nor coloured; SwAV
publishes its own policy with bilinear crops, SSLight all of its with bicubic ones.

# References
    - SwAV, Sec. 3.2 and released code: `swav`, `swav_global`
    - DINO, Sec. 3.1 and released code: `dino`
    - SSLight, Table 8 and released code: the others
"""

import dataclasses
from collections.abc import Callable

from larq_ssl.data.view_policy import SMALLEST_SIDE, View, ViewPolicy

_GLOBAL_SIZE = 224
Intensity = tuple[View, View, View]
"""The ops of the first global view, of the second one and of the local ones, all of one size and not cropped yet."""


@dataclasses.dataclass(frozen=True)
class MultiCrop:
    """A multi-crop policy for any image size.

    # Arguments
        intensity: The ops besides the crop, given the size.
        smallest_global: S_g.
        largest_local: S_l.
        local_size: LC where the global views have 224 pixels.
        local_views: N_l.
        smallest_local: Lower end of the local crops' area.
        alpha: Share of the pairs of global views in the loss; `None`: all pairs count alike.
    """

    intensity: Callable[[int], Intensity]
    smallest_global: float
    largest_local: float = 1.0
    local_size: int = 96
    local_views: int = 6
    smallest_local: float = 0.05
    alpha: float | None = None

    def policy(self, name: str, image_size: int) -> ViewPolicy:
        """The policy under a name, for global views of a size."""
        *both, local = self.intensity(image_size)
        local_size = max(SMALLEST_SIDE, round(image_size * self.local_size / _GLOBAL_SIZE))
        small = dataclasses.replace(local, size=local_size, crop_scale=(self.smallest_local, self.largest_local))
        return ViewPolicy(
            name,
            tuple(dataclasses.replace(view, crop_scale=(self.smallest_global, 1.0)) for view in both),
            (small,) * self.local_views,
            self.alpha,
        )


def _dino(size: int) -> Intensity:
    """DINO's, which are BYOL's: the first global view always blurred, the second hardly, but solarised at times."""
    local = View(
        size,
        flip=0.5,
        jitter=(0.4, 0.4, 0.2, 0.1),
        jitter_probability=0.8,
        grey_probability=0.2,
        blur_probability=0.5,
    )
    second = dataclasses.replace(local, blur_probability=0.1, solarise_probability=0.2)
    return dataclasses.replace(local, blur_probability=1.0), second, local


def _swav_bicubic(size: int) -> Intensity:
    """SwAV's, with the bicubic crops of SSLight: strong colours, the same for every view."""
    view = View(
        size,
        flip=0.5,
        jitter=(0.8, 0.8, 0.8, 0.2),
        jitter_probability=0.8,
        grey_probability=0.2,
        blur_probability=0.5,
    )
    return view, view, view


def _swav(size: int) -> Intensity:
    """SwAV's, as released."""
    view = dataclasses.replace(_swav_bicubic(size)[0], interpolation="bilinear")
    return view, view, view


def _cifar(size: int) -> Intensity:
    """DINO's for images of 32 pixels: no blur, which erases what such an image shows."""
    first, second, local = (dataclasses.replace(view, blur_probability=0.0) for view in _dino(size))
    return first, second, local


def _digits(size: int) -> Intensity:
    """As for pairs of digits: what a flip or a hue would change is the digit itself."""
    view = View(
        size,
        jitter=(0.4, 0.4, 0.0, 0.0),
        jitter_probability=0.8,
        blur_probability=0.2,
        blur_sigma=(0.1, 1.0),
    )
    return view, view, view


MULTI_CROPS = {
    "dino": MultiCrop(_dino, 0.4, 0.4, local_views=8),
    "dino_convnet": MultiCrop(_dino, 0.14, 0.14),
    "dino_vit": MultiCrop(_dino, 0.25, 0.25, local_views=10),
    "sslight": MultiCrop(_dino, 0.3, 0.3, local_size=128, alpha=0.4),
    "sslight_vit": MultiCrop(_dino, 0.3, 0.3, local_size=128, local_views=10, alpha=0.4),
    "swav": MultiCrop(_swav, 0.14, 0.14),
    "swav_global": MultiCrop(_swav, 0.08, local_views=0),
    "sslight_swav_baseline": MultiCrop(_swav_bicubic, 0.14, 0.14),
    "sslight_swav": MultiCrop(_swav_bicubic, 0.3, 0.3, local_size=128, alpha=0.4),
    "cifar_multi_crop": MultiCrop(_cifar, 0.14, 0.14),
    "cifar_multi_crop_sslight": MultiCrop(_cifar, 0.3, 0.3, local_size=128, alpha=0.4),
    # A small part of a digit may be of any digit, so parts are large; they keep about the pixel scale of the wholes.
    "digits_multi_crop": MultiCrop(_digits, 0.5, 0.5, local_size=160, local_views=4, smallest_local=0.2),
}
"""DINO's and SwAV's own policies; the baselines (`dino_convnet`, `dino_vit`, `sslight_swav_baseline`) that SSLight
compares its own with; and those for small images."""
