#!/usr/bin/env bash
# Sets up the runtimes of the driver tests: a Python environment in .cache/venv, and node_modules.
. "$(dirname "$0")/common.sh"

clients=$root/tests/clients

# Whether $2 was made from the lock file $1 as it is now.
is_current() { cmp -s "$1" "$2/.made-from"; }

python_environment() {
    local wanted=$clients/python/requirements.txt venv=$cache/venv
    is_current "$wanted" "$venv" && return
    say "making the Python environment"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
    cp "$wanted" "$venv/.made-from"
}

node_modules() {
    local wanted=$clients/node/package-lock.json modules=$clients/node/node_modules
    is_current "$wanted" "$modules" && return
    say "installing node modules"
    (cd "$clients/node" && npm ci --silent --no-audit --no-fund)
    cp "$wanted" "$modules/.made-from"
}

mkdir -p "$cache"
python_environment
node_modules
