"""One task that takes as long as it is told, on Airflow 2 and 3."""

from datetime import datetime

try:  # Airflow 3
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.operators.bash import BashOperator

with DAG("nap", schedule=None, start_date=datetime(2024, 1, 1), is_paused_upon_creation=False):
    BashOperator(task_id="sleeper", bash_command="echo begins; sleep {{ dag_run.conf['seconds'] }}; echo ends")
