"""The clients that Airflow uses, asked by lines of JSON: each question says which reader, which URL and which environment, each
answer who connected to what, or that it was refused."""

import json
import os
import socket
import ssl
import sys
import threading
import warnings

warnings.simplefilter("ignore")
WHO = (
    "SELECT coalesce(inet_server_port()::text, ''), current_user::text, current_database()::text, "
    "(SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid())"
)


def sqlalchemy(question):
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    engine = create_engine(question["url"], poolclass=NullPool)
    raw = engine.raw_connection()
    try:
        cursor = raw.cursor()
        cursor.execute(WHO)
        port, user, database, tls = cursor.fetchone()
    finally:
        raw.close()
    return {"port": port, "user": user, "database": database, "tls": "t" if tls else "f"}


def kombu(question):
    from kombu import Connection

    tls = question.get("ssl") or False
    if tls:
        tls = dict(tls, cert_reqs=ssl.CERT_REQUIRED)
    connection = Connection(question["url"], ssl=tls)
    tries = question["url"].count(";") * 2 + 1
    connection.ensure_connection(max_retries=tries, interval_start=0, interval_step=0)
    try:
        # Over TLS a login may be refused as late as this.
        connection.default_channel
        port = connection.connection.transport.sock.getpeername()[1]
        return {"port": str(port), "user": connection.userid, "vhost": connection.virtual_host}
    finally:
        connection.release()


def serve(question):
    """A server of TLS with this certificate before a port without it; the answer is its own port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(question["certificate"], question["key"])
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source, target):
        try:
            while data := source.recv(8192):
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def client(plain):
        try:
            inside = context.wrap_socket(plain, server_side=True)
            outside = socket.create_connection(("127.0.0.1", question["to"]))
        except OSError:
            plain.close()
            return
        threading.Thread(target=pump, args=(inside, outside), daemon=True).start()
        pump(outside, inside)

    def accept():
        while True:
            threading.Thread(target=client, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return {"port": str(listener.getsockname()[1])}


def versions(_):
    import amqp
    import kombu
    import psycopg2
    import sqlalchemy

    return {name.__name__: name.__version__ for name in (sqlalchemy, psycopg2, kombu, amqp)}


READERS = {"sqlalchemy": sqlalchemy, "kombu": kombu, "serve": serve, "versions": versions}

# Nobody is there to type a pass phrase, as in a container.
os.setsid()
questions = os.fdopen(os.dup(0))
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

for line in questions:
    question = json.loads(line)
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    os.environ.update(question.get("env", {}))
    try:
        answer = {"ok": READERS[question["reader"]](question)}
    except BaseException as error:
        answer = {"refused": f"{type(error).__name__}: {error}"[:300]}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
