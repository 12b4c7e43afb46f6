"""Airflow's part of benches/scale, by the libraries that Airflow uses.

`workers URL PREFIX COUNT`: as many control mailboxes, each answering as a Celery worker answers.
`jobs URL PREFIX COUNT PERIOD`: what `airflow jobs check` says to Postgres, once a period for each pod, on a connection of its own.
`pings URL PREFIX COUNT PERIOD`: what `celery inspect ping` says to the broker, likewise.

Each prints `ready` and goes on until it is killed.
"""

import random
import socket
import sys
import threading
import time


def every(period, count, check):
    """Calls `check(number)` for each pod once a period, each at a time of its own, in as many threads as are needed."""

    def pod(number):
        due = time.monotonic() + random.random() * period
        while True:
            time.sleep(max(0.0, due - time.monotonic()))
            check(number)
            due += period

    threading.stack_size(256 * 1024)
    for number in range(count):
        threading.Thread(target=pod, args=(number,), daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


def workers(url, prefix, count):
    from kombu import Connection
    from kombu.pidbox import Mailbox

    answers = {
        "ping": lambda state, **_: {"ok": "pong"},
        "active_queues": lambda state, **_: [],
    }
    connection = Connection(url)
    connection.connect()
    mailbox = Mailbox("celery", type="fanout", accept=["json"], serializer="json")
    for number in range(count):
        node = mailbox(connection).Node(f"celery@{prefix}{number}", None, connection.channel(), answers)
        node.listen(callback=node.handle_message)
    print("ready", flush=True)
    while True:
        try:
            connection.drain_events(timeout=1)
        except (TimeoutError, socket.timeout):
            pass


def jobs(url, prefix, count, period):
    from sqlalchemy import create_engine, text
    from sqlalchemy.pool import NullPool

    # `airflow.cli.commands.jobs_command.check`: the newest rows of a type and a host name.
    query = text(
        "SELECT * FROM job WHERE job.state = 'running' AND job.job_type = 'SchedulerJob' AND job.hostname = :name "
        "ORDER BY job.latest_heartbeat DESC LIMIT 1"
    )

    def check(number):
        # Each command is a process of its own: what an engine asks once at its first connection is asked each time.
        with create_engine(url, poolclass=NullPool).connect() as connection:
            assert connection.execute(query, {"name": f"{prefix}{number}"}).all()

    every(period, count, check)


def pings(url, prefix, count, period):
    from celery import Celery

    def check(number):
        app = Celery("scale", broker=url, set_as_current=False)
        with app.connection_for_write() as connection:
            inspect = app.control.inspect(destination=[f"celery@{prefix}{number}"], connection=connection, timeout=5)
            if not inspect.ping():
                print(f"no answer of {prefix}{number}", file=sys.stderr, flush=True)

    every(period, count, check)


if __name__ == "__main__":
    what, url, prefix, count = sys.argv[1:5]
    rest = [float(word) for word in sys.argv[5:]]
    {"workers": workers, "jobs": jobs, "pings": pings}[what](url, prefix, int(count), *rest)
