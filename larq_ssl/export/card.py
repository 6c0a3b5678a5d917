"""The model card: what a network is, what it was made of, what it was measured to do, and how it is used."""

from collections.abc import Mapping, Sequence
from typing import Any

_Facts = Mapping[str, Any]


def markdown(facts: _Facts) -> str:
    """A model card as Markdown.

    # Arguments
        facts: `export` (what `export.json` holds) and, as far as it is known, `method`, `data` (name, text),
            `stages` (a mapping of flags by name of the stage), `probes` (metrics by what was probed) and `licences`
            (Markdown).
    """
    parts = (_title, _use, _data, _cost, _probes, _audit, _stages, _licences)
    return "\n".join(part(facts) for part in parts)


def usage(export: _Facts) -> str:
    """Five lines of Python that run the file on a photograph."""
    _, height, width, _ = export["input"]["shape"]
    pixels = export["input"]["pixels"]
    return (
        "import numpy as np, PIL.Image\n"
        "from larq_compute_engine.tflite.python.interpreter import Interpreter\n"
        f'image = PIL.Image.open("photo.jpg").convert("RGB").resize(({width}, {height}))\n'
        'interpreter = Interpreter(open("model.tflite", "rb").read(), use_indirect_bgemm=True)\n'
        f"print(interpreter.predict(np.asarray(image, np.{pixels})[None])[0])\n"
    )


def _title(facts: _Facts) -> str:
    export = facts["export"]
    spec = export["encoder"]
    kind = {"full": "binary", "activations": "with binary activations alone", "none": "float"}[spec["binarization"]]
    (what, count), *_ = export["output"].items()
    lines = [
        f"# {spec['name']}, {kind}, width {spec['width']:g}\n",
        f"From images of {export['input']['shape'][1]} pixels ({export['input']['pixels']}, 0 to 255, RGB) to "
        f"{count} {what.replace('_', ' ')}. Encoder `{export['encoder_hash']}`, trained by "
        f"{facts.get('method') or 'a method that is not recorded'}; exported by larq_ssl at commit "
        f"`{export['commit']}` with Larq Compute Engine {export['larq_compute_engine']}.\n",
    ]
    if export["class_names"]:
        lines.append(f"Classes, in the order of the scores (logits): {', '.join(export['class_names'])}.\n")
    return "\n".join(lines)


def _use(facts: _Facts) -> str:
    return (
        "## Use\n\nWith `pip install larq-compute-engine pillow`, in this folder:\n\n"
        f"```python\n{usage(facts['export'])}```\n\n"
        "Accuracies were measured on images whose shorter side was resized and whose middle was cut out.\n"
    )


def _data(facts: _Facts) -> str:
    return f"## Data\n\n{facts.get('data') or 'Not recorded: the encoder came without the run that trained it.'}\n"


def _cost(facts: _Facts) -> str:
    export = facts["export"]
    cost, size = export["cost"], export["audit"]["size"]
    rows = [
        ("binary multiply-accumulates", f"{cost['binary_macs']:,}"),
        ("other multiply-accumulates", f"{cost['float_macs']:,}"),
        ("operations (binary / 64 + other)", f"{cost['ops']:,.0f}"),
        ("weights as Larq counts them", f"{size['larq_bytes']:,} bytes"),
        ("file", f"{size['file_bytes']:,} bytes"),
    ]
    if "float_twin_bytes" in export:
        rows.append(("float twin", f"{export['float_twin_bytes']:,} bytes"))
    return f"## Cost of one image\n\n{_table(('', ''), rows)}"


def _probes(facts: _Facts) -> str:
    probes = facts.get("probes") or {}
    # Each learning rate of a sweep is in the JSON.
    names = [name for name in dict.fromkeys(name for part in probes.values() for name in part) if "/lr_" not in name]
    if not names:
        return "## Probes\n\nNone was found beside the run.\n"
    rows = [(name, *(f"{part[name]:.4f}" if name in part else "" for part in probes.values())) for name in names]
    return f"## Probes\n\n{_table(('metric', *probes), rows)}"


def _audit(facts: _Facts) -> str:
    audit = facts["export"]["audit"]
    rows = [("binary layers packed", f"{audit['packed_layers']} of {audit['binary_layers']}")]
    for kernels, equal in audit["equal_inputs"].items():
        text = f"{equal['max']:.2g} (allowed {audit['tolerance']:g})"
        rows.append((f"largest difference of a layer on equal inputs, {kernels} kernels", text))
    rows += [(f"{part} layers", state) for part, state in facts["export"]["real_valued_layers"].items()]
    rows += [(name.replace("_", " "), f"{value:.4g}") for name, value in audit["end_to_end"].items()]
    if audit["flips"]:
        rows.append(("signs that flip, mean of the layers", f"{audit['flips']['mean_share']:.2g}"))
    rows.append(("layers that waste packed bits", ", ".join(audit["wasted_bits"]) or "none"))
    return f"## Audit: the file against Keras\n\n{_table(('', ''), rows)}"


def _stages(facts: _Facts) -> str:
    stages = facts.get("stages") or {}
    lines = ["## Training\n"]
    for name, flags in stages.items():
        text = "".join(f"--{flag}={value}\n" for flag, value in flags.items())
        lines.append(f"{name}:\n\n```\n{text}```\n")
    return "\n".join(lines) if stages else "## Training\n\nNot recorded.\n"


def _licences(facts: _Facts) -> str:
    text = facts.get("licences") or "Not recorded: ask where data and teacher come from.\n"
    return f"## Licences\n\n{text.removeprefix('# Licences').lstrip()}"


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    alignment = ("---", *["---:"] * (len(header) - 1))
    lines = [f"| {' | '.join(cells)} |" for cells in (header, alignment, *rows)]
    return "\n".join(lines) + "\n"
