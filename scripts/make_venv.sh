#!/bin/sh
# Makes .venv out of requirements.lock (with LOCK=..., of another one), with the package itself installed editable.
# A .venv without the stamp is a half-made one (the stamp is written last) and is made anew;
# with it, the packages are brought up to date in place.
set -eu
cd "$(dirname "$0")/.."

venv=.venv
stamp=$venv/.complete
lock=${LOCK:-requirements.lock}
candidates=${PYTHON:-python3.11 python3.10 python3 python}
version_check='import sys
fits = (3, 10) <= sys.version_info[:2] < (3, 12) and sys.maxsize > 2**32 and sys.implementation.name == "cpython"
sys.exit(not fits)'

say() { echo "make_venv: $*" >&2; }

fail() {
    rm -rf "$venv"
    say "$*"
    exit 1
}

# A name on the PATH proves little (pyenv leaves shims that only print an error), so each candidate is run.
fits() { "$1" -c "$version_check" >/dev/null 2>&1; }

have_uv() { uv --version >/dev/null 2>&1; }

create_with_uv() {
    # uv takes an interpreter that is installed, and downloads one only where none fits.
    rm -rf "$venv"
    uv venv --quiet --python "${PYTHON:-cpython>=3.10,<3.12}" "$venv" >/dev/null 2>&1 && fits "$venv/bin/python"
}

create_with_venv() {
    lacks_venv=
    for candidate in $candidates; do
        fits "$candidate" || continue
        rm -rf "$venv"
        if "$candidate" -m venv "$venv" >/dev/null 2>&1; then return; fi
        lacks_venv=${lacks_venv:-$candidate}
    done
    if [ -n "$lacks_venv" ]; then
        fail "$lacks_venv cannot make virtual environments: please install its venv module" \
            "(Debian, Ubuntu: apt install python3-venv) or uv (https://docs.astral.sh/uv)."
    fi
    fail "please install Python 3.10 or 3.11 (64 bit) or uv (https://docs.astral.sh/uv), which can fetch it;" \
        "tried uv, $(echo "$candidates" | sed 's/ /, /g')."
}

announce() { say "installing $lock into $venv with $1, $("$venv/bin/python" --version) (first time: 600 MB)"; }

install_with_uv() {
    announce uv
    # The lock names everything, and scripts/overrides.txt contradicts what a package asks for.
    uv pip install --python "$venv/bin/python" --no-deps --requirement "$lock" &&
        uv pip install --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
}

install_with_pip() {
    announce pip
    "$venv/bin/python" -m pip --disable-pip-version-check install --no-deps --requirement "$lock" &&
        "$venv/bin/python" -m pip --disable-pip-version-check install --no-deps --no-build-isolation --editable .
}

finish() {
    touch "$stamp"
    exit 0
}

if [ -e "$stamp" ] && fits "$venv/bin/python"; then
    rm "$stamp"
    if have_uv; then install_with_uv && finish; else install_with_pip && finish; fi
    say "$venv could not be brought up to date, so it is made anew"
fi
if have_uv; then
    # Where uv cannot reach the package index, pip may, by settings of its own.
    create_with_uv && install_with_uv && finish
    say "uv could not make $venv, trying Python's own venv and pip"
fi
create_with_venv
install_with_pip && finish
say "the packages could not be installed: see pip's messages above."
exit 1
