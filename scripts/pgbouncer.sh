#!/usr/bin/env bash
# Puts the PgBouncer of a newer Debian, with the libraries that it needs, into .cache/pgbouncer/SUITE, and prints the path
# of a program that runs it. Nothing is installed.
#
# usage: scripts/pgbouncer.sh [SUITE]      (trixie; or sid)
#
# Debian 12 has PgBouncer 1.18, which does not follow prepared statements; 1.21 is the first that does.
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/suite.sh"

suite=${1:-trixie}
home=$cache/pgbouncer/$suite
program=$home/pgbouncer
# The last ones are those that the others ask for.
packages=(
    pgbouncer libc6 libcares2 libevent-2.1-7t64 libpam0g libssl3t64 libsystemd0
    libldap2 libsasl2-2 libaudit1 libcap-ng0 libcap2 libgcc-s1 libzstd1 zlib1g
)

runs() { "$program" --version >/dev/null 2>&1; }

if ! runs; then
    say "fetching PgBouncer of Debian $suite"
    fetch_from_suite "$suite" "$home" "${packages[@]}"
    write_program "$home" usr/sbin/pgbouncer
    "$program" --version >&2 || die "PgBouncer of $suite does not run"
fi
printf '%s\n' "$program"
