# Sourced by the scripts beside it: messages, the cache folder, a Python, the pinned installer.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${KUBE_AIRFLOW_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kube-airflow-init}

say() { printf '==> %s\n' "$*" >&2; }

# die MESSAGE FIX
die() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf '  fix: %s\n' "$2" >&2
    exit 1
}

# can_build CLIENT...: dies unless that docker client can build. From 23 on it does so by its plugin buildx alone; before, by itself.
can_build() {
    local version
    ! "$@" buildx version >/dev/null 2>&1 || return 0
    version=$("$@" --version 2>/dev/null || true)
    [[ $version == "Docker version "* && ! $version =~ ^Docker\ version\ (1[0-9]|20)\. ]] || return 0
    # shellcheck disable=SC2016 # for the reader's shell
    die "$* cannot build: its plugin buildx is missing" \
        'apt-get install docker-buildx-plugin (docker-buildx in Debian), or: mkdir -p ~/.docker/cli-plugins && cp "$(scripts/tool docker-buildx)" ~/.docker/cli-plugins/'
}

# Prints the Rust of rust-toolchain.toml, such as 1.95.0.
rust_channel() { sed -n 's/^channel = "\(.*\)"$/\1/p' "$ROOT/rust-toolchain.toml"; }

# Makes sure that there is the Rust of rust-toolchain.toml. rustup may be told not to install it by itself.
ensure_rust() {
    cd "$ROOT" || return
    command -v cargo >/dev/null || die "cargo is not in PATH" "install Rust from https://rustup.rs"
    ! cargo --version >/dev/null 2>&1 || return 0
    local channel
    channel=$(rust_channel)
    say "installing Rust $channel"
    rustup toolchain install "$channel" --no-self-update --profile minimal --component rustfmt --component clippy >&2 ||
        die "rustup could not install Rust $channel" "rustup must be able to reach its server"
}

# Succeeds when $1 is a Python of version $2, such as 3.12. It is run, not only found: a pyenv shim may lead nowhere.
is_python() {
    local found
    found=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) && [ "$found" = "$2" ]
}

# Prints the first Python that has one of the given versions.
find_python() {
    local version candidate
    for version in "$@"; do
        for candidate in "$(command -v "python$version" || true)" "$(command -v python3 || true)" \
            "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python; do
            if [ -n "$candidate" ] && is_python "$candidate" "$version"; then
                "$candidate" -c 'import sys; print(sys.executable)'
                return 0
            fi
        done
    done
    return 1
}

# Succeeds when the virtual environment $1 is finished and its Python still runs.
venv_ready() { [ -e "$1/.complete" ] && "$1/bin/python" -c '' 2>/dev/null; }

# with_lock FILE COMMAND...: one process at a time; the others wait and find the work done.
with_lock() {
    local file=$1
    shift
    mkdir -p "$(dirname "$file")"
    (
        flock -n 9 || {
            say "another process is making ${file%.lock}: waiting for it"
            flock 9
        }
        "$@"
    ) 9>"$file"
}

make_tool_venv() {
    local dir=$1 lock=$2 python
    ! venv_ready "$dir" || return 0
    python=$(find_python 3.12 3.11 3.13 3.14 3.10 3.9) || die "no Python 3.9 to 3.14 in PATH" "apt-get install python3 python3-venv"
    rm -rf "$dir"
    "$python" -m venv "$dir" >&2 || die "$python cannot make a virtual environment" "apt-get install python3-venv"
    "$dir/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock" >&2 ||
        die "$(basename "$lock") could not be installed" "see the lines above; the package index must be reachable"
    touch "$dir/.complete"
}

# tool_venv NAME: prints the folder of an environment with requirements/NAME.txt, made when it is not there yet.
tool_venv() {
    local lock=$ROOT/requirements/$1.txt dir
    dir=$CACHE/$1-$(sha256sum "$lock" | cut -c1-12)
    if ! venv_ready "$dir"; then
        say "installing $1 into $dir"
        with_lock "$dir.lock" make_tool_venv "$dir" "$lock"
    fi
    printf '%s\n' "$dir"
}
