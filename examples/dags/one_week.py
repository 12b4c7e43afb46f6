"""A DAG for every day of a week that is over: nothing is scheduled, a backfill fills the days. See docs/tutorial.md."""

from datetime import datetime

try:  # Airflow 3
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import DAG

    DAILY = {"schedule": "@daily"}
except ImportError:
    from airflow import DAG

    try:  # Airflow 2, from 2.4
        from airflow.operators.bash import BashOperator

        DAILY = {"schedule": "@daily"}
    except ImportError:  # Airflow 1.10
        from airflow.operators.bash_operator import BashOperator

        DAILY = {"schedule_interval": "@daily"}


with DAG(
    dag_id="one_week",
    description="one task a day, in the first week of 2024",
    start_date=datetime(2024, 1, 1),
    end_date=datetime(2024, 1, 7),
    catchup=False,
    is_paused_upon_creation=False,
    tags=["example"],
    **DAILY
) as dag:
    BashOperator(task_id="print_date", bash_command="echo 'the day is {{ ds }}'")
