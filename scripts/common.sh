# Shared by the scripts of this folder; sourced, not run.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${PGWEIR_CACHE:-$root/.cache}

say() { printf '== %s\n' "$*" >&2; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Installs Debian packages, as root or through sudo. Says which are missing where neither will do.
apt_install() {
    say "installing with apt: $*"
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        have sudo || die "missing Debian packages: $*"
        as_root=(sudo)
    fi
    if [ -z "${apt_is_fresh:-}" ]; then
        "${as_root[@]}" apt-get update -qq
        apt_is_fresh=1
    fi
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" \
        >/dev/null
}

# PostgreSQL refuses to run as root: the user that runs it instead. Debian's packages make it too.
ensure_postgres_user() {
    if [ "$(id -u)" = 0 ] && ! id postgres >/dev/null 2>&1; then
        useradd --system --no-create-home --shell /bin/sh postgres
    fi
}

# Runs a command as the user that PostgreSQL runs as.
as_postgres() {
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid postgres --regid postgres --clear-groups "$@"
    else
        "$@"
    fi
}
