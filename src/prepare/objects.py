# Sets, removes and notes objects in one transaction, by Airflow itself. Standard input is one JSON object; silence is success.
import json
import sys

order = json.loads(sys.stdin.buffer.read().decode("utf-8"))
at = "Airflow"
try:
    from airflow.models import Connection, Pool, Variable
    from sqlalchemy import text

    try:
        from airflow.utils.session import create_session
    except ImportError:  # Airflow 1.10
        from airflow.utils.db import create_session

    classes = {"connection": (Connection, "conn_id"), "variable": (Variable, "key"), "pool": (Pool, "pool")}
    schema = Pool.__table__.schema
    table = ('"%s".' % schema if schema else "") + order["table"]

    def put(session, kind, name, fields):
        cls, key = classes[kind]
        # Rows are not loaded: what another Fernet key encrypted cannot be, and is to be replaced all the same. The team of
        # Airflow 3 is not ours to change.
        kept = [column for column in ("id", "team_name") if hasattr(cls, column)]
        there = session.query(cls).filter(getattr(cls, key) == name)
        old = session.query(*[getattr(cls, column) for column in kept]).filter(getattr(cls, key) == name).first()
        known = {field: value for field, value in fields.items() if field == "uri" or hasattr(cls, field)}
        if old and kind == "pool":
            there.update(known, synchronize_session=False)
            return
        new = cls(**dict(known, **{key: name}))
        for column, value in zip(kept, old or ()):
            setattr(new, column, value)
        there.delete(synchronize_session=False)
        session.add(new)
        session.flush()

    def note(session, kind, name, row):
        at = {"kind": kind, "name": name}
        session.execute(text("DELETE FROM %s WHERE kind = :kind AND name = :name" % table), at)
        if row:
            insert = "INSERT INTO %s (kind, name, fingerprint, origin) VALUES (:kind, :name, :fingerprint, :origin)"
            session.execute(text(insert % table), dict(at, **row))

    with create_session() as session:
        at = order["table"]
        session.execute(
            text(
                "CREATE TABLE IF NOT EXISTS %s (kind varchar(10) NOT NULL, name varchar(256) NOT NULL, fingerprint "
                "varchar(64) NOT NULL, origin varchar(10) NOT NULL, PRIMARY KEY (kind, name))" % table
            )
        )
        for step in order["steps"]:
            kind, name = step["kind"], step["name"]
            at = "%s %s" % (kind, name)
            if step["do"] == "put":
                put(session, kind, name, json.loads(step["fields"]))
            elif step["do"] == "remove":
                cls, key = classes[kind]
                session.query(cls).filter(getattr(cls, key) == name).delete(synchronize_session=False)
            note(session, kind, name, step.get("row"))
        at = "the commit"
except Exception as error:  # The text of SQLAlchemy goes on with the statement and its values.
    sys.exit("%s: %s: %s" % (at, type(error).__name__, str(error).split("\n")[0]))
