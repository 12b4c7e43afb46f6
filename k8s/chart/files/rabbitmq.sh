# shellcheck shell=bash
# Asks the broker as a client does, and is content with its first frame: one of the kind "method". It says no more, so the broker has nothing
# to keep. Without a listener, or with one that says nothing, it fails.
exec 3<>"/dev/tcp/127.0.0.1/${1:-5672}" || exit 1
printf 'AMQP\0\0\11\1' >&3
IFS= read -r -n 1 -t 4 kind <&3 && [ "$kind" = $'\001' ]
