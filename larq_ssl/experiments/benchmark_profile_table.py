"""Tables of where training steps spend time and memory."""

from collections.abc import Sequence

from larq_ssl.experiments.benchmark_profile import Profile

_NOTE = """
Milliseconds of a class are those of its operations, added up over the threads that run them side by side: all classes
together may be more than the step takes, and those of `views` compete with it for the same cores. Kept MiB are the
tensors that the forward pass makes and the backward pass reads, by what made them, as TensorFlow's graph has them.
`frozen networks` are those that nobody optimises, where they can be told from the others by their names.
"""


def tables(profiles: Sequence[Profile]) -> str:
    """Time and memory of the same step in several arithmetics, as Markdown."""
    return f"{_times(profiles)}{_NOTE}{_memory(profiles)}"


def _times(profiles: Sequence[Profile]) -> str:
    kinds = [kind for kind in profiles[0].operations if any(_matters(profile, kind) for profile in profiles)]
    rows = [
        *((kind, [profile.operations[kind] for profile in profiles]) for kind in kinds),
        ("**all of the step**", [sum(profile.operations.values()) for profile in profiles]),
        ("views (pipeline)", [profile.pipeline for profile in profiles]),
    ]
    text = _header(["operations", *(part for profile in profiles for part in (f"{profile.name}, ms", "share, %"))])
    for name, seconds in rows:
        totals = [sum(profile.operations.values()) for profile in profiles]
        pairs = [
            (f"{1000 * own:,.1f}", f"{100 * own / total:.0f}" if total else "")
            for own, total in zip(seconds, totals, strict=True)
        ]
        text += _row(name, *(cell for pair in pairs for cell in pair))
    text += "\n" + _header(["a step, ms", *(profile.name for profile in profiles)])
    for name, part in (
        ("from end to end", lambda profile: profile.seconds),
        ("waiting for images", lambda profile: profile.waiting),
        ("callbacks", lambda profile: profile.callbacks),
        ("Keras around the step", lambda profile: profile.keras),
    ):
        text += _row(name, *(f"{1000 * part(profile):,.1f}" for profile in profiles))
    return text


def _matters(profile: Profile, kind: str) -> bool:
    return profile.operations[kind] > 0


def _memory(profiles: Sequence[Profile]) -> str:
    kinds = [kind for kind in profiles[0].kept if any(profile.kept[kind] for profile in profiles)]
    text = "\n" + _header(["MiB", *(profile.name for profile in profiles)])
    for kind in kinds:
        text += _row(f"kept: {kind}", *(_mib(profile.kept[kind]) for profile in profiles))
    text += _row("**kept**", *(_mib(sum(profile.kept.values())) for profile in profiles))
    for part, name in (("weights", "weights, of all networks"), ("slots", "slots of the optimizer")):
        text += _row(name, *(_mib(profile.held[part]) for profile in profiles))
    return text + _row("peak of the process", *(_mib(profile.peak) for profile in profiles))


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f}"


def _header(titles: Sequence[str]) -> str:
    return f"| {' | '.join(titles)} |\n| --- |{' ---: |' * (len(titles) - 1)}\n"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"
