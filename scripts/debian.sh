#!/usr/bin/env bash
# Installs what tests and benches need from Debian, where it is missing: PostgreSQL with psql and pgbench, PgBouncer and
# HAProxy to compare with, what counts system calls and instructions, and the runtimes of the drivers.
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
need /usr/sbin/haproxy haproxy
need strace strace
need valgrind valgrind
need python3 python3
need npm nodejs npm
need setpriv util-linux
need cc gcc libc6-dev
need pg_config libpq-dev
need javac default-jdk-headless
need /usr/share/java/postgresql.jar libpostgresql-jdbc-java
need go golang-go
need /usr/share/gocode/src/github.com/lib/pq golang-github-lib-pq-dev
need /usr/share/gocode/src/github.com/jackc/pgx/v4 golang-github-jackc-pgx-v4-dev
need php php-cli
php -r 'exit(extension_loaded("pdo_pgsql") ? 0 : 1);' 2>/dev/null || missing+=(php-pgsql)
perl -MDBD::Pg -e 1 2>/dev/null || missing+=(perl libdbd-pg-perl)
ruby -e 'require "pg"; require "active_record"' 2>/dev/null || missing+=(ruby ruby-pg ruby-activerecord)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)

[ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
ensure_postgres_user
