#!/usr/bin/env bash
# Puts the PgBouncer of a newer Debian, with the libraries that it needs, into .cache/pgbouncer/SUITE, and prints the path
# of a program that runs it. Nothing is installed: apt works on lists of its own, and dpkg-deb only unpacks.
#
# usage: scripts/pgbouncer.sh [SUITE]      (trixie; or sid)
#
# Debian 12 has PgBouncer 1.18, which does not follow prepared statements; 1.21 is the first that does.
. "$(dirname "$0")/common.sh"

suite=${1:-trixie}
home=$cache/pgbouncer/$suite
program=$home/pgbouncer
# The last ones are those that the others ask for.
packages=(
    pgbouncer libc6 libcares2 libevent-2.1-7t64 libpam0g libssl3t64 libsystemd0
    libldap2 libsasl2-2 libaudit1 libcap-ng0 libcap2 libgcc-s1 libzstd1 zlib1g
)

# apt with a state of its own: the system's suites and packages are left as they are.
apt_of_suite() {
    local command=$1
    shift
    "$command" -o Dir::Etc="$home/apt/etc" -o Dir::State="$home/apt/state" -o Dir::Cache="$home/apt/cache" \
        -o Dir::State::status="$home/apt/state/status" -o APT::Sandbox::User="$(id -un)" \
        -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false "$@"
}

fetch() {
    say "fetching PgBouncer of Debian $suite"
    rm -rf "$home"
    mkdir -p "$home"/apt/etc/{apt.conf.d,preferences.d,sources.list.d,trusted.gpg.d} "$home/apt/state/lists/partial" \
        "$home/apt/cache/archives/partial" "$home/debs" "$home/root"
    touch "$home/apt/state/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main" \
        >"$home/apt/etc/sources.list"
    apt_of_suite apt-get update -qq
    (cd "$home/debs" && apt_of_suite apt-get download -qq "${packages[@]}")
    local deb
    for deb in "$home"/debs/*.deb; do dpkg-deb --extract "$deb" "$home/root"; done
    rm -rf "$home/apt" "$home/debs"
}

# The system's C library may be too old for it, so it runs under the loader of its own. The process is PgBouncer itself:
# exec keeps its number.
write_program() {
    local loader library root=$home/root
    loader=$(find "$root" -name 'ld-linux-*.so.*' -o -name 'ld64.so.*' | head -n 1)
    library=$(dirname "$(find "$root" -name 'libc.so.6' | head -n 1)")
    cat >"$program" <<END
#!/bin/sh
exec "$loader" --library-path "$library:$root/lib/$(basename "$library")" "$root/usr/sbin/pgbouncer" "\$@"
END
    chmod -R a+rX "$home"
    chmod a+x "$program"
}

runs() { "$program" --version >/dev/null 2>&1; }

have apt-get && have dpkg-deb || die "this needs apt-get and dpkg-deb"
if ! runs; then
    fetch
    write_program
    "$program" --version >&2 || die "PgBouncer of $suite does not run"
fi
printf '%s\n' "$program"
