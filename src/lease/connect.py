"""Every session of this scheduler with the metadata database carries the epoch of its lease.

Written by kube-airflow-init; do not edit. Airflow hands CONNECT_ARGS to SQLAlchemy, and that to psycopg2. A session
first takes the shared lock of its epoch, then looks whether the epoch is still the one of the lease: a successor raises
the epoch, ends the sessions that have the lock, and passes it once. So no session of an earlier scheduler is left, and
none comes anew.
"""

import importlib
import os

import psycopg2
from psycopg2.extensions import connection as plain

TICKET = os.environ.get("KUBE_AIRFLOW_LEASE_TICKET")
OWN = os.environ.get("KUBE_AIRFLOW_LEASE_CONNECT_ARGS")


class Fenced(psycopg2.OperationalError):
    """The lease of this scheduler is over."""


def admit(connection):
    space, epoch, token, table = TICKET.split(" ", 3)
    space = int(space)
    if space >= 2**31:
        space -= 2**32
    # Two statements, two snapshots: what is read is as new as the lock.
    connection.autocommit = True
    try:
        cursor = connection.cursor()
        cursor.execute("SELECT pg_advisory_lock_shared(%s, %s)", (space, int(epoch)))
        cursor.execute("SELECT count(*) FROM " + table + " WHERE epoch = %s AND token = %s", (int(epoch), token))
        current = cursor.fetchone()[0] == 1
        cursor.close()
    except Exception:
        connection.close()
        raise
    if not current:
        connection.close()
        raise Fenced("the lease of this scheduler is over: another one has epoch " + epoch + " or a later one")
    connection.autocommit = False


def factory(own):
    """A connection of psycopg2, or of the user's own kind, that is admitted."""
    if not isinstance(own, type):

        def make(*args, **kwargs):
            made = own(*args, **kwargs)
            admit(made)
            return made

        return make

    class Leased(own):
        def __init__(self, *args, **kwargs):
            super(Leased, self).__init__(*args, **kwargs)
            admit(self)

    return Leased


def merged():
    args = {}
    if OWN:
        module, _, name = OWN.rpartition(".")
        args = dict(getattr(importlib.import_module(module), name))
    if TICKET:
        args["connection_factory"] = factory(args.get("connection_factory") or plain)
    return args


connect_args = merged()
