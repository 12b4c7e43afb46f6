#!/bin/sh
# Writes the users that PgBouncer knows into a folder in memory, and becomes it. A quote is doubled there.
set -eu
quoted() { printf '%s' "$1" | sed 's/"/""/g'; }
umask 077
printf '"%s" "%s"\n' "$(quoted "$POSTGRES_USER")" "$(quoted "$POSTGRES_PASSWORD")" >/run/pgbouncer/users.txt
exec pgbouncer /etc/pgbouncer/pgbouncer.ini
