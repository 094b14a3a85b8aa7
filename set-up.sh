#!/bin/sh
# Makes .venv with the pinned versions; does nothing when it is there already. `make` calls it.
set -eu
cd "$(dirname "$0")"

fail() { printf 'set-up: %s\n' "$1" >&2; exit 1; }

python=${PYTHON:-}
if [ -z "$python" ]; then
    for name in python3 python3.13 python3.12 python3.11 python; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
            python=$name
            break
        fi
    done
fi
if [ -z "$python" ]; then
    found=$(python3 --version 2>&1) || found="no python3"
    fail "found $found on PATH, and no other; Python 3.11, 3.12 or 3.13 is needed. Install one, or name it: make PYTHON=/path/to/python3.11"
fi
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
    fail "PYTHON=$python does not run; name a Python 3.11, 3.12 or 3.13"
case $version in
    3.11 | 3.12 | 3.13) ;;
    *) fail "$python is Python $version; 3.11, 3.12 or 3.13 is needed. Name one: make PYTHON=/path/to/python3.11" ;;
esac

stamp="$version $(cat pyproject.toml constraints.txt set-up.sh | cksum) $(pwd)"
if [ -x .venv/bin/python ] && [ "$(cat .venv/stamp 2>/dev/null)" = "$stamp" ]; then
    exit 0
fi

free_mb=$(df -Pm . | awk 'NR == 2 { print $4 }')
if [ "$free_mb" -lt 4000 ]; then
    fail "$free_mb MB free in $(pwd); the packages need 4000 MB (9000 MB with CUDA). Free some space first"
fi

echo "set-up: Python $version, packages of constraints.txt into .venv (one to four minutes, once)" >&2
rm -f .venv/stamp
"$python" -m venv --clear .venv ||
    fail "$python cannot make a virtual environment; on Debian and Ubuntu: apt install python$version-venv"
uv=$(command -v uv) || {
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.8" ||
        fail "uv could not be installed; is a package index reachable?"
    uv=.venv/bin/uv
}
# pip's folder of local wheels serves uv as well
if [ -n "${PIP_FIND_LINKS:-}" ] && [ -z "${UV_FIND_LINKS:-}" ]; then
    export UV_FIND_LINKS="$PIP_FIND_LINKS"
fi
"$uv" pip install --quiet --python .venv/bin/python --compile-bytecode -c constraints.txt -e '.[dev]' ||
    fail "the packages could not be installed (see above); nothing is half done: run make again"
echo "$stamp" >.venv/stamp
