# Sourced by tools/demo, tools/test and tools/test_stock: finds a Python, makes .venv, installs the package into it.
# Needs: the current directory is the root of the repository. Sets: venv_python. Reads: VENV, another folder for .venv.

venv=${VENV:-.venv}

say() { printf '%s\n' "$*" >&2; }
give_up() { say "$*"; exit 7; }

suits() { "$@" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1; }
can_make_venv() { "$@" -c 'import ensurepip, venv' >/dev/null 2>&1; }

# Prints the command of a suitable Python, those that ONNX Runtime's training build is for first; PYTHON=... puts
# another one before them.
find_python() {
    local candidate incomplete=
    for candidate in "${PYTHON:-}" python3.12 python3.11 python3.10 python3 python \
        'py -3.12' 'py -3.11' 'py -3.10' python3.13 'py -3.13'; do
        # shellcheck disable=SC2086  # 'py -3.12' is a command with an argument
        [ -n "$candidate" ] && suits $candidate || continue
        # shellcheck disable=SC2086
        if can_make_venv $candidate; then printf '%s\n' "$candidate"; return; fi
        incomplete=${incomplete:-$candidate}
    done
    if [ -n "$incomplete" ]; then
        give_up "$incomplete cannot make virtual environments: install its venv package" \
            "(Debian, Ubuntu: apt install $incomplete-venv)"
    fi
    give_up "onnx-oto needs Python 3.10, 3.11, 3.12 or 3.13, and none was found: install one" \
        "(Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.12)"
}

locate_venv_python() {
    venv_python=$venv/bin/python
    [ -e "$venv/Scripts/python.exe" ] && venv_python=$venv/Scripts/python.exe
    return 0
}

# A half-made environment, or one of a Python that is gone, is made again.
make_venv() {
    local python
    locate_venv_python
    if suits "$venv_python" && "$venv_python" -m pip --version >/dev/null 2>&1; then return; fi
    python=$(find_python) || exit 7
    say "making $venv with $python"
    # shellcheck disable=SC2086
    $python -m venv --clear "$venv" >&2 || give_up "$python -m venv $venv failed: see above"
    locate_venv_python
}

runtimes() {
    "$venv_python" -c '
from importlib.metadata import distributions
names = {(d.metadata["Name"] or "").lower().replace("_", "-") for d in distributions()}
print(*sorted(n for n in names if n.startswith("onnxruntime") and not n.endswith("-extensions")))'
}

# Prints the extra of the runtime that this Python trains with: the training build where there is one.
runtime_extra() {
    "$venv_python" -c '
import platform, sys
has_build = sys.version_info < (3, 13) and (sys.platform != "linux" or platform.machine() == "x86_64")
print("cpu" if has_build else "runtime")'
}

# install_extras EXTRAS: installs `.[EXTRAS]` unless it was done for this pyproject.toml in this place. The first of them
# is `cpu` or `runtime`; another build of the same runtime that is there already stays.
install_extras() {
    local extras=$1 stamp=$venv/installed-$1 found
    found=$(runtimes)
    case $found/$extras in
        *' '*)
            say "removing $found: they share one import package, so only one may be installed"
            # shellcheck disable=SC2086
            "$venv_python" -m pip uninstall -q -y $found >&2
            rm -f "$venv"/installed-*
            ;;
        onnxruntime-training/cpu*) extras=${extras/cpu/cuda} ;;
        onnxruntime-gpu/runtime*) extras=${extras/runtime/gpu} ;;
        onnxruntime-training-cpu/cpu* | onnxruntime/runtime* | /*) ;;
        *)
            say "replacing $found: onnx-oto[$extras] needs another runtime"
            "$venv_python" -m pip uninstall -q -y "$found" >&2
            rm -f "$venv"/installed-*
            ;;
    esac
    [ -n "$found" ] || rm -f "$venv"/installed-*
    if { pwd; cat pyproject.toml; } | cmp -s - "$stamp"; then return; fi
    say "installing onnx-oto[$extras] into $venv (only when pyproject.toml changed)"
    "$venv_python" -m pip install -q --disable-pip-version-check -e ".[$extras]" >&2 ||
        give_up "pip could not install onnx-oto[$extras]: see above; it needs a package index"
    { pwd; cat pyproject.toml; } >"$stamp"
}
