# Sourced by the scripts beside it: where the project is, and an environment for each supported Airflow.
#
# The Airflow versions are named in one place, the file names requirements/airflow-<version>.txt.
# Their environments lie in .envs/airflow-<version> and can be deleted at any time.
# shellcheck shell=sh

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
envs=$root/.envs

# What the caller's shell has set for another project, or for an Airflow of its own, must not reach this one.
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV
for name in $(env | sed -n 's/^\(AIRFLOW_[A-Za-z0-9_]*\)=.*/\1/p'); do unset "$name"; done

say() { printf '%s\n' "$*"; }

die() {
    printf '%s\n' "$@" >&2
    exit 1
}

# Oldest first. `sort -V` is no POSIX.
airflow_versions() {
    for pins in "$root"/requirements/airflow-*.txt; do
        pins=${pins##*/airflow-}
        say "${pins%.txt}"
    done | sort -t . -k 1,1n -k 2,2n
}

newest_airflow() { airflow_versions | tail -n 1; }

# Sets $python. The pins are made for 3.11, so 3.11 comes first.
find_python() {
    if [ -n "${PYTHON-}" ]; then
        set -- "$PYTHON"
    else
        set -- python3.11 python3.12 python3 python3.13 python3.14 python
    fi
    found=
    for candidate; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        # Some systems ship Python without what makes environments; pyenv has commands that only print an error.
        verdict=$("$candidate" -c '
import sys
version = "%d.%d.%d" % sys.version_info[:3]
if sys.version_info < (3, 11):
    print(version + " is too old")
else:
    try:
        import ensurepip, venv
        print("ok")
    except ImportError:
        print(version + " cannot make environments; on Debian or Ubuntu install python%d.%d-venv" % sys.version_info[:2])
' 2>/dev/null) || verdict="does not start"
        if [ "$verdict" = ok ]; then
            python=$candidate
            return
        fi
        found="$found
  $candidate: $verdict"
    done
    die "No usable Python: needed is Python 3.11 or newer (3.11 and 3.12 run every supported Airflow)." \
        "Found: ${found:-nothing${PYTHON:+ at $PYTHON}}" \
        "Install one, or name it: PYTHON=/path/to/python3.11 $0"
}

# A second script started meanwhile waits here, rather than installing into the same folder.
lock() {
    waited=
    until mkdir "$1" 2>/dev/null; do
        holder=$(cat "$1/pid" 2>/dev/null) || holder=
        if [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null; then
            rm -rf "$1" # its maker was interrupted
            continue
        fi
        [ -n "$waited" ] || say "Waiting for another script to finish this environment (if none runs, remove $1)."
        waited=yes
        sleep 1
    done
    say "$$" >"$1/pid"
}

unlock() { rm -rf "$1"; }

checksum() { cat -- "$@" | cksum; }

make_venv() {
    rm -rf "$1"
    "$python" -m venv ${2-} "$1" ||
        die "$python could not make $1 (see above). Is there room on the disk, and may you write there?"
}

# install_into VENV WHAT...: with uv, and where uv does not get through, with pip, which may know a
# mirror, a proxy or a certificate that uv was not told of.
install_into() {
    venv=$1
    shift
    if [ -x "$envs/uv/bin/uv" ]; then
        # Python will not keep its bytecode: compile it once here, or each start of Airflow takes twice as long.
        UV_COMPILE_BYTECODE=${PYTHONDONTWRITEBYTECODE:+1} \
            "$envs/uv/bin/uv" pip install --quiet --python "$venv/bin/python" "$@" && return
        say "uv could not install (see above); trying pip ..."
    fi
    "$envs/uv/bin/python" -m pip --python "$venv/bin/python" install --quiet --disable-pip-version-check "$@" ||
        die "The installation into $venv failed (see above)." \
            "The network: pip needs PyPI or the mirror in your pip configuration (pip config list)." \
            "The Python: this is $("$python" -V); another one can be named, PYTHON=/path/to/python3.11 $0" \
            "Then run $0 again: it starts this installation afresh."
}

make_uv() {
    # An environment holds the paths of its Python and of itself: where one of them changed, it is made again.
    stamp=$("$python" -c 'import sys; print(sys.version, sys.base_prefix)' |
        cat - "$root/requirements/uv.txt" | cksum)" $root"
    if [ "$(cat "$envs/uv/.made-from" 2>/dev/null)" = "$stamp" ]; then return; fi
    say "Making .envs/uv, the installer (some seconds) ..."
    make_venv "$envs/uv"
    "$envs/uv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$root/requirements/uv.txt" ||
        say "uv is not to be had here (see above); pip does its work, more slowly."
    say "$stamp" >"$envs/uv/.made-from"
}

# make_env VERSION: makes .envs/airflow-VERSION, or brings it up to date, and sets $bin to its programs.
make_env() {
    env=$envs/airflow-$1
    pins=$root/requirements/airflow-$1.txt
    bin=$env/bin
    if [ ! -f "$pins" ]; then
        die "No Airflow $1 among the supported ones: $(airflow_versions | tr '\n' ' ')"
    fi
    find_python
    mkdir -p "$envs"
    lock "$envs/lock"
    make_uv
    # The stamps are written last: without them an environment counts as half made.
    pins_stamp="$stamp $(checksum "$pins")"
    project_stamp=$(checksum "$root/pyproject.toml" "$root/airflow_provider_stability/__init__.py")
    if [ "$(cat "$env/.pins" 2>/dev/null)" != "$pins_stamp" ]; then
        say "Making .envs/airflow-$1: some 150 packages, half a minute to a few, by your network ..."
        make_venv "$env" --without-pip
        install_into "$env" -r "$pins"
        say "$pins_stamp" >"$env/.pins"
    fi
    if [ "$(cat "$env/.project" 2>/dev/null)" != "$project_stamp" ]; then
        say "Installing this package into .envs/airflow-$1 ..."
        install_into "$env" --no-deps --no-build-isolation --editable "$root"
        say "$project_stamp" >"$env/.project"
    fi
    unlock "$envs/lock"
}
