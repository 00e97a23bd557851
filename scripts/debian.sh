#!/usr/bin/env bash
# Installs what the tests need from Debian, where it is missing: PostgreSQL with psql and pgbench, PgBouncer to
# compare with, Python with venv, and Node.
. "$(dirname "$0")/common.sh"

missing=()
need() { # need COMMAND-OR-FILE PACKAGE...
    local probe=$1
    shift
    have "$probe" || [ -e "$probe" ] || missing+=("$@")
}

newest_server() { ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null | tail -n 1; }

[ -n "$(newest_server)" ] || missing+=(postgresql)
need psql postgresql-client
need pgbench postgresql-contrib
need /usr/sbin/pgbouncer pgbouncer
need python3 python3
need npm nodejs npm
need setpriv util-linux
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)

[ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
ensure_postgres_user
