"""A task that takes a while: long enough to stop what it runs under."""

from datetime import datetime

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG(dag_id="nap", start_date=datetime(2024, 1, 1), schedule=None, is_paused_upon_creation=False):
    BashOperator(task_id="sleep", bash_command="sleep 25 && echo awake")
