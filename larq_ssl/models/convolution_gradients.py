"""Convolutions and their gradients; by kernels on small maps as products of matrices."""

import dataclasses
import itertools

import tensorflow as tf

KERNEL_GRADIENT = "kernel_gradient"
"""Scope of operations that are a gradient by a kernel, whatever their types."""
_FEW = 16
"""Positions of a batch's maps, as a multiple of their channels, up to which matrix products are quicker."""


@dataclasses.dataclass(frozen=True)
class Convolution:
    """How a kernel `[rows, columns, channels, filters]` goes over maps; a function of both.

    # Arguments
        strides: Down and to the right.
        padding: `SAME` or `VALID`.
        dilations: Like the strides.
        data_format: `NHWC` or `NCHW`.
    """

    strides: tuple[int, int] = (1, 1)
    padding: str = "SAME"
    dilations: tuple[int, int] = (1, 1)
    data_format: str = "NHWC"

    def __call__(self, maps: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.nn.convolution(maps, kernel, self.strides, self.padding, self.data_format, self.dilations)

    def gradients(self, maps: tf.Tensor, kernel: tf.Tensor, upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """By maps and by kernel."""
        # In a graph, where nobody asks for the outputs, they are not computed again; nor is a gradient.
        with tf.GradientTape() as tape:
            tape.watch([maps, kernel])
            outputs = self(maps, kernel)
        by_maps, by_kernel = tape.gradient(outputs, [maps, kernel], upstream)
        if self._is_better_by_products(maps.shape, kernel.shape, upstream.shape):
            by_kernel = self._kernel_gradient_by_products(maps, kernel.shape, upstream)
        return by_maps, by_kernel

    def _is_better_by_products(self, maps: tf.TensorShape, kernel: tf.TensorShape, upstream: tf.TensorShape) -> bool:
        """Whether matrix products are quicker than oneDNN's gradient, slow for small maps and large kernels."""
        if self.data_format != "NHWC" or self.dilations != (1, 1) or self.strides[0] != self.strides[1]:
            return False
        known = maps.is_fully_defined() and upstream.is_fully_defined()
        if not known or maps[-1] != kernel[2] or len(tf.config.get_visible_devices()) > 1:
            return False
        return upstream.num_elements() // upstream[-1] <= _FEW * kernel[2]

    def _kernel_gradient_by_products(self, maps: tf.Tensor, kernel: tf.TensorShape, upstream: tf.Tensor) -> tf.Tensor:
        """The gradient by the kernel as one product of matrices for each of its rows and columns.

        Of row i, column j: the pixels that it meets `[positions, channels]`, transposed, times the upstream gradient
        `[positions, filters]`.
        """
        channels, filters = kernel[2:]
        stride, same = self.strides[0], self.padding == "SAME"
        down, right = (
            _Axis(kernel[axis], maps.shape[1 + axis], upstream.shape[1 + axis], stride, same) for axis in (0, 1)
        )
        # Not as soon as there are maps, of which the pieces would be kept until the backward pass.
        with tf.name_scope(KERNEL_GRADIENT), tf.control_dependencies([upstream]):
            if down.is_padded or right.is_padded:
                maps = tf.pad(maps, [[0, 0], [down.before, down.after], [right.before, right.after], [0, 0]])
            if stride > 1:  # neighbours become groups of channels, and a step of the stride a step of one
                maps = tf.nn.space_to_depth(maps, stride)
            upstream = tf.reshape(upstream, [-1, filters])
            found = []
            for row, column in itertools.product(range(down.size), range(right.size)):
                if not (down.meets_pixels(row) and right.meets_pixels(column)):
                    found.append(tf.zeros([channels, filters], upstream.dtype))
                    continue
                top, left = row // stride, column // stride
                group = channels * (row % stride * stride + column % stride)
                met = maps[:, top : top + down.places, left : left + right.places, group : group + channels]
                found.append(tf.linalg.matmul(tf.reshape(met, [-1, channels]), upstream, transpose_a=True))
            return tf.reshape(tf.stack(found), kernel)


@dataclasses.dataclass(frozen=True)
class _Axis:
    """One axis of a convolution: a kernel of some size on a side of pixels, at some places a stride apart."""

    size: int
    side: int
    places: int
    stride: int
    same: bool

    @property
    def _needed(self) -> int:
        return (self.places - 1) * self.stride + self.size

    @property
    def before(self) -> int:
        """Pixels of padding before the first."""
        return max(0, self._needed - self.side) // 2 if self.same else 0

    @property
    def after(self) -> int:
        """Pixels of padding after the last, up to a multiple of the stride."""
        sides = max(self._needed, self.before + self.side)
        return sides + -sides % self.stride - self.before - self.side

    @property
    def is_padded(self) -> bool:
        return self.before + self.after > 0

    def meets_pixels(self, start: int) -> bool:
        """Whether a row or column of the kernel meets anything but padding."""
        return any(0 <= start + self.stride * place - self.before < self.side for place in range(self.places))
