"""What a head is, as plain data."""

import dataclasses

from larq_ssl.roles import Role

ACTIVATIONS = ("relu", "gelu")
NORMS = ("none", "batch", "layer", "weight")
OUTPUT_ROLES = (Role.KERNEL.value, Role.PROTOTYPES.value, Role.LAST_LAYER.value)


@dataclasses.dataclass(frozen=True)
class HeadSpec:
    """All that is needed to build a head again, apart from its weights; see `mlp_head`."""

    name: str
    input_dim: int
    hidden_dims: tuple[int, ...]
    output_dim: int | None
    norm: str
    output_relu: bool = False
    output_bias: bool = True
    activation: str = "relu"
    last_layer: int | None = None
    free_gain: bool = False
    output_role: str = Role.KERNEL.value
    output_norm: bool = False

    @property
    def depth(self) -> int:
        """Number of layers: dense ones with their norm and activation."""
        return len(self.hidden_dims) + (self.output_dim is not None)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ValueError(f"name must be a text, got {self.name!r}.")
        if not isinstance(self.hidden_dims, list | tuple):
            raise ValueError(f"hidden_dims must be a list of widths, got {self.hidden_dims!r}.")
        object.__setattr__(self, "hidden_dims", tuple(self.hidden_dims))
        for argument in ("input_dim", "output_dim", "last_layer"):
            value = getattr(self, argument)
            if not _is_count(value) and not (value is None and argument != "input_dim"):
                raise ValueError(f"{argument} must be positive, got {value}.")
        if not all(_is_count(width) for width in self.hidden_dims):
            raise ValueError(f"hidden_dims must be positive, got {self.hidden_dims}.")
        _check_choice("norm", self.norm, NORMS)
        _check_choice("activation", self.activation, ACTIVATIONS)
        _check_choice("output_role", self.output_role, OUTPUT_ROLES)
        for argument in ("output_relu", "output_bias", "free_gain", "output_norm"):
            value = getattr(self, argument)
            if not isinstance(value, bool):
                raise ValueError(f"{argument} must be True or False, got {value!r}.")
        if self.output_dim is None and not self.hidden_dims:
            raise ValueError("hidden_dims must have a width where output_dim is None, got none.")
        if self.output_dim is None and (self.output_relu or self.output_norm or self.last_layer is not None):
            raise ValueError("output_dim must be a width where something follows the output, got None.")


def _check_choice(argument: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{argument} must be one of {', '.join(allowed)}, got {value!r}.")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
