#!/usr/bin/env bash
# Puts an exporter for PgBouncer, of a newer Debian, into .cache/exporter/NAME, and prints the path of a program that runs it.
# Nothing is installed.
#
# usage: scripts/exporter.sh [community | pigsty]
#
# community  prometheus-community/pgbouncer_exporter, by which most dashboards go
# pigsty     pg_exporter, which goes by the number of columns
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/suite.sh"

name=${1:-community}
home=$cache/exporter/$name

case $name in
    community) package=prometheus-pgbouncer-exporter path=usr/bin/prometheus-pgbouncer-exporter ;;
    pigsty) package=pg-exporter path=usr/bin/pg_exporter ;;
    *) die "no exporter $name: there are community and pigsty" ;;
esac
program=$home/$(basename "$path")

runs() { "$program" --version >/dev/null 2>&1; }

if ! runs; then
    say "fetching the exporter $name of Debian sid"
    fetch_from_suite sid "$home" "$package" libc6 libgcc-s1
    write_program "$home" "$path"
    runs || die "the exporter $name does not run"
fi
printf '%s\n' "$program"
