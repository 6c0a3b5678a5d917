"""The commands of larq_ssl: `python -m larq_ssl.experiments.<name>`. Flags live here and nowhere else."""

import os

# TensorFlow 2.15 prints lines about plugins on every start; what goes wrong still comes as a Python exception.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
