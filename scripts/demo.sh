#!/usr/bin/env bash
# Runs `pgweir demo`, and installs Debian's PostgreSQL before it where no server is found.
#
# usage: scripts/demo.sh [ARGUMENT...]      (those of `pgweir demo`)
. "$(dirname "$0")/common.sh"

# The places where `pgweir demo` looks.
has_server() {
    local bin
    for bin in "$(dirname "$(command -v initdb)")" /usr/lib/postgresql/*/bin "$(pg_config --bindir 2>/dev/null)"; do
        [ -x "$bin/initdb" ] && [ -x "$bin/postgres" ] && return
    done
    return 1
}

has_server || { have apt-get && apt_install postgresql; } || true
cd "$root"
exec "${CARGO:-cargo}" run --quiet --release -- demo "$@"
