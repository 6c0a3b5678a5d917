#!/bin/sh
# Makes the pictures of docs/views.md anew, from the two photographs that scikit-learn brings along.
set -eu
cd "$(dirname "$0")/.."

python=${PYTHON:-.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" - "$work" <<'END'
import pathlib, shutil, sys
import sklearn.datasets

images = pathlib.Path(sklearn.datasets.__file__).parent / "images"
(pathlib.Path(sys.argv[1]) / "photographs" / "train").mkdir(parents=True)
for name in ("china.jpg", "flower.jpg"):
    shutil.copy(images / name, pathlib.Path(sys.argv[1]) / "photographs" / "train")
END

# Photographs take a quarter of the bytes as JPEG.
jpeg() {
    "$python" - "$1" "$2" <<'END'
import sys
from PIL import Image

Image.open(sys.argv[1]).convert("RGB").save(sys.argv[2], quality=85, optimize=True)
END
}

for policy in sslight dino_convnet dino swav bssl simclr byol msbreg infomin_jigsaw; do
    "$python" -m larq_ssl.experiments.views --policy="$policy" --dataset=folder --data_dir="$work/photographs" \
        --out="$work/$policy"
    jpeg "$work/$policy/sheet.png" "docs/views/${policy%_jigsaw}.jpg"
done
jpeg "$work/infomin_jigsaw/patches.png" docs/views/infomin_patches.jpg

# The crops of swav are those of dino_convnet, and the last five have no local ones.
for policy in sslight dino_convnet dino; do
    cp "$work/$policy/pixel_scale.png" "docs/views/${policy}_pixel_scale.png"
done
