#!/bin/sh
# Writes the password of Redis into a file in memory, and becomes it. A quote and a backslash are escaped there.
set -eu
umask 077
printf 'requirepass "%s"\n' "$(printf '%s' "$REDIS_PASSWORD" | sed 's/["\\]/\\&/g')" >/run/redis/password.conf
exec redis-server /etc/redis/redis.conf
