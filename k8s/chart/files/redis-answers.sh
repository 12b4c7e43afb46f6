# shellcheck shell=sh
# Asks as a client does. While Redis reads its file, it answers with an error: it is alive then, and not ready.
[ "$(REDISCLI_AUTH=$REDIS_PASSWORD timeout 4 redis-cli -h 127.0.0.1 -p "${1:-6379}" ping)" = PONG ]
