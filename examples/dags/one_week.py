"""A DAG for every day of a week that is over: nothing is scheduled, a backfill fills the days. See docs/tutorial.md."""

from datetime import datetime
from inspect import signature

try:  # Airflow 3
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG

    try:  # Airflow 2
        from airflow.operators.bash import BashOperator
    except ImportError:  # Airflow 1.10
        from airflow.operators.bash_operator import BashOperator

# Its name since Airflow 2.4, and the one before.
SCHEDULE = "schedule" if "schedule" in signature(DAG.__init__).parameters else "schedule_interval"


with DAG(
    dag_id="one_week",
    description="one task a day, in the first week of 2024",
    start_date=datetime(2024, 1, 1),
    end_date=datetime(2024, 1, 7),
    catchup=False,
    is_paused_upon_creation=False,
    tags=["example"],
    **{SCHEDULE: "@daily"}
) as dag:
    BashOperator(task_id="print_date", bash_command="echo 'the day is {{ ds }}'")
