"""A scheduler that does nothing but write, with the connections that its lease gives it: three processes, one of them in
a session of its own, as real schedulers have. Each row says which epoch it believes in, and what the lease says."""

import os
import sys
import time

import psycopg2

dsn = sys.argv[1]
sys.argv = sys.argv[:1]
if "KUBE_AIRFLOW_LEASE_TICKET" in os.environ:
    from kube_airflow_lease import connect_args

    space, epoch, token, table = os.environ["KUBE_AIRFLOW_LEASE_TICKET"].split(" ", 3)
else:
    connect_args, epoch, token = {}, "0", ""

for own in (False, True):
    if os.fork() == 0:
        if own:
            os.setsid()
        break

WRITE = """
INSERT INTO writes (epoch, token, barred, pid)
SELECT %s, %s, (SELECT barred FROM kube_airflow_init_lease), %s
"""


def work():
    connection = psycopg2.connect(dsn, connect_timeout=2, **connect_args)
    with connection:
        # Nobody has such a name who was not admitted.
        connection.cursor().execute("SET application_name = %s", ("epoch %s of %s" % (epoch, token[:20]),))
    for _ in range(40):
        with connection:
            connection.cursor().execute(WRITE, (int(epoch), token, os.getpid()))
        time.sleep(0.01)
    connection.close()


while True:
    try:
        work()
    except psycopg2.Error as error:
        sys.stderr.write("epoch %s: %s\n" % (epoch, str(error).strip().split("\n")[0]))
        time.sleep(0.05)
