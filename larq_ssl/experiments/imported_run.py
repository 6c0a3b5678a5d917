"""A PyTorch checkpoint as the folder of a finished run."""

import hashlib
import os
import pathlib
from typing import Any

from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.files import whole_folder, write_json, write_whole
from larq_ssl.models.folder import encoder_hash, save_encoder, save_head, write_arrays
from larq_ssl.torch_import import KINDS, Imported, import_checkpoint


def convert(
    file: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    kind: str | None = None,
    licence: str | None = None,
    binarization: str | None = None,
    classifier: bool = False,
) -> list[str]:
    """Makes of a PyTorch checkpoint a folder laid out as that of a finished run, whole or not at all.

    In it: `encoders/student` (and `encoders/ema` of a momentum encoder), `heads/`, `memories/queue.npz`,
    `LICENSES.md`, `import.json` (where it comes from, and what became of it) and `results.json`.

    # Arguments
        file: Written by `torch.save`.
        folder: Must not exist.
        kind: See `larq_ssl.torch_import.import_checkpoint`.
        licence: Of the weights; `None` if unknown.
        binarization: As `kind`.
        classifier: As `kind`.
    # Returns
        What was imported, in lines for people.
    # Raises
        ValueError: If the folder exists or the file cannot be imported, in one sentence.
    """
    file = pathlib.Path(file)
    with whole_folder(folder) as unfinished:
        imported = import_checkpoint(file, kind, binarization, classifier)
        run = RunFolder(unfinished)
        for name, encoder in imported.encoders.items():
            save_encoder(encoder, run.encoder(name))
        for name, head in imported.heads.items():
            save_head(head, run.head(name).parent)
        for name, memory in imported.memories.items():
            write_arrays(memory, run.memory(name))
        known = licence or "not known here: ask where the file comes from"
        write_whole(run.licences_file, f"# Licences\n\n- Weights: {file.name}. Their licence: {known}.\n")
        write_json(unfinished / "import.json", _record(file, imported, licence))
        hashes = {name: encoder_hash(encoder) for name, encoder in imported.encoders.items()}
        write_json(run.results_file, {"metrics": {}, "encoders": hashes})
    return _report(imported, licence)


def _record(file: pathlib.Path, imported: Imported, licence: str | None) -> dict[str, Any]:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        for part in iter(lambda: stream.read(1 << 20), b""):
            digest.update(part)
    return {
        "source": file.name,
        "sha256": digest.hexdigest(),
        "layout": imported.layout,
        "kind": imported.kind,
        "licence": licence,
        "tensors": dict(imported.tensors),
        "left_out": dict(imported.left_out),
    }


def _report(imported: Imported, licence: str | None) -> list[str]:
    lines = [f"{KINDS[imported.kind].what} (--kind={imported.kind}), in PyTorch's {imported.layout} layout:"]
    for name, encoder in imported.encoders.items():
        spec = encoder.spec
        kernels = sum(variable.shape.rank == 4 for variable in encoder.weights)
        binary = {"none": "", "activations": ", binary activations", "full": ", binary activations and weights"}
        gives = f"{spec.classes} classes" if spec.classes else f"{encoder.feature_dim} features"
        lines.append(
            f"  {name}: {spec.name} of width {spec.width:g}{binary[spec.binarization]}, {gives}; "
            f"{kernels} of {kernels} convolutions, {imported.tensors[name]} of {len(encoder.weights)} tensors."
        )
    for name, head in imported.heads.items():
        dims = [head.spec.input_dim, *head.spec.hidden_dims, head.spec.output_dim]
        norm = " with batch norm" if head.spec.norm == "batch" else ""
        lines.append(f"  {name}: {'-'.join(map(str, dims))}{norm}, {imported.tensors[name]} tensors.")
    for name, memory in imported.memories.items():
        lines.append(f"  {name}: {' x '.join(map(str, memory['keys'].shape))}, pointer at {memory['pointer']}.")
    if imported.left_out:
        left = ", ".join(f"{count} of {what}" for what, count in imported.left_out.items())
        lines.append(f"  Left out, for want of a place: {left}.")
    turned = any(encoder.spec.rotate_input for encoder in imported.encoders.values())
    exact = "image sizes divisible by 32" if turned else "all image sizes"
    lines.append(f"  Images: raw pixels, normalised as on ImageNet; exact for {exact}.")
    if licence is None:
        lines.append("  The licence of the weights is recorded as unknown; --licence=... says what it is.")
    return lines
