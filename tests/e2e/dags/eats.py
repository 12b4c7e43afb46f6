"""A task that takes memory until it is killed, and does well when it is tried again."""

import time
from datetime import datetime, timedelta
from inspect import signature

try:  # Airflow 3
    from airflow.providers.standard.operators.python import PythonOperator
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG
    from airflow.operators.python import PythonOperator

SCHEDULE = "schedule" if "schedule" in signature(DAG.__init__).parameters else "schedule_interval"


def eat(ti, **_):
    print("begins, try", ti.try_number)
    held = []
    while ti.try_number == 1:
        held.append(bytearray(1 << 20))
        time.sleep(0.005)


with DAG("eats", start_date=datetime(2024, 1, 1), is_paused_upon_creation=False, **{SCHEDULE: None}) as dag:
    PythonOperator(task_id="much", python_callable=eat, retries=1, retry_delay=timedelta(seconds=1))
