"""Answers of the real readers: SQLAlchemy, kombu, ConfigParser and Airflow's own configuration.

`oracle.py QUESTION IN OUT`: IN and OUT are JSON files, a list in and a list of the same length out. Runs on Python 3.8 and
later with the Airflow of its environment.
"""
import json
import sys


def database(url):
    """What a client of the database would be given."""
    from sqlalchemy.engine.url import make_url

    try:
        url = make_url(url)
    except Exception:
        return None
    if isinstance(url.port, str):  # SQLAlchemy 1.3 leaves it to the driver
        url.port = int(url.port) if url.port else None
    query = {key: list(value) if isinstance(value, tuple) else value for key, value in (url.query or {}).items()}
    return [url.username, url.password, url.host, url.port or None, url.database, query]


def broker(url):
    """What a connection to the broker would be given."""
    from kombu.utils.url import url_to_parts

    try:
        parts = url_to_parts(url)
    except Exception:
        return None
    return [parts.username, parts.password, parts.hostname, parts.port, parts.path]


def redis(url):
    """What redis-py would be given, without a connection."""
    import ssl

    from kombu import Connection
    from kombu.transport.redis import Channel

    channel = Channel.__new__(Channel)
    try:
        channel.connection = type("Owner", (), {"client": Connection(url), "default_port": 6379})
        given = channel._connparams()
    except Exception:
        return None
    secure = issubclass(given["connection_class"], Channel.connection_class_ssl)
    checked = secure and given.get("ssl_cert_reqs", ssl.CERT_REQUIRED) != ssl.CERT_NONE
    place = [given.get("host"), given.get("port"), given.get("path")]
    return [*place, given["username"], given["password"], given["db"], secure, checked]


def database_url(parts):
    from sqlalchemy.engine.url import URL

    user, password, host, port, name, query = parts
    url = URL.create("postgresql", user, password, host, port, name, query)
    return url.render_as_string(hide_password=False)


def broker_url(parts):
    from urllib.parse import quote

    from kombu.utils.url import as_url

    user, password, host, port, vhost = parts
    return as_url("amqp", host, port, user, password, quote(vhost))


def ini(text):
    """Every option of a text, or the reason why there is none; interpolation errors are per option."""
    import configparser
    import io

    class Parser(configparser.ConfigParser):
        def optionxform(self, optionstr):
            return optionstr

    parser = Parser()
    try:
        parser.read_file(io.StringIO(text, newline=None))
    except configparser.Error:
        return None
    found = []
    for section in parser.sections():
        for option in parser._sections[section]:
            try:
                found.append([section, option, parser.get(section, option)])
            except configparser.InterpolationError:
                found.append([section, option, None])
    return found


def airflow_file(path):
    """Every option of a file as Airflow sees it, its environment variables expanded."""
    from airflow.configuration import AirflowConfigParser, expand_env_var

    base = next(base for base in AirflowConfigParser.__mro__ if base.__name__ == "ConfigParser")
    parser = AirflowConfigParser()
    parser.read(path)
    return [
        [section, option, expand_env_var(base.get(parser, section, option))]
        for section in base.sections(parser)
        for option in parser._sections[section]
    ]


def providers(_):
    """The names of the installed Apache providers, sorted."""
    import re
    from importlib.metadata import distributions

    names = {re.sub(r"[-_.]+", "-", found.metadata["Name"] or "").lower() for found in distributions()}
    return sorted(name for name in names if name.startswith("apache-airflow-providers-"))


def revisions(folder):
    """Heads and all revisions of a folder of migrations, as alembic sees them."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(folder)
    return [sorted(scripts.get_heads()), sorted(script.revision for script in scripts.walk_revisions())]


if __name__ == "__main__":
    _, question, source, target = sys.argv
    with open(source, encoding="utf-8") as file:
        asked = json.load(file)
    answers = [globals()[question](item) for item in asked]
    with open(target, "w", encoding="utf-8") as file:
        json.dump(answers, file)
