"""The picture of a training step: which operations its time goes to."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from larq_ssl.evaluation._figures import INK, Path, colours, new_figure, save

# What a letter takes of the longest bar; parts that are narrower than their number have none.
_LETTER = 0.0125


def step_times(
    file: Path, steps: Mapping[str, Mapping[str, float]], title: str, unit: str = "ms", overwrite: bool = False
) -> Figure:
    """Draw a bar per step, made of its parts, all bars on one scale.

    # Arguments
        file: Where to write.
        steps: Size of each part by its name, by the name of the step; the same parts in all of them.
        title: Above the bars.
        unit: Of the sizes.
        overwrite: Replace the file.
    # Returns
        The figure.
    # Raises
        ValueError: If there are no steps, or they have not the same parts.
    """
    if not steps:
        raise ValueError("There is nothing to draw: `steps` must not be empty.")
    parts = list(next(iter(steps.values())))
    if any(list(step) != parts for step in steps.values()):
        raise ValueError("All of `steps` must have the same parts, in the same order.")
    parts = [part for part in parts if any(step[part] for step in steps.values())]
    longest = max(sum(step.values()) for step in steps.values())
    figure = new_figure(9.0, 2.2 + 0.55 * len(steps))
    axes = figure.subplots()
    for row, step in enumerate(steps.values()):
        left = 0.0
        for part, colour in zip(parts, colours(len(parts)), strict=True):
            axes.barh(row, step[part], left=left, color=colour, edgecolor="white", label=part if row == 0 else None)
            number = f"{step[part]:,.0f}"
            if step[part] > _LETTER * len(number) * longest:
                axes.text(left + step[part] / 2, row, number, ha="center", va="center", color="white")
            left += step[part]
        axes.text(left, row, f" {left:,.0f}", ha="left", va="center", color=INK)
    axes.set_yticks(range(len(steps)), list(steps))
    axes.invert_yaxis()
    axes.set_xlim(0, longest * 1.08)
    axes.set_xlabel(unit)
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return save(figure, file, overwrite, dpi=130)
