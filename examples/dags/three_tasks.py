"""A first DAG: extract >> transform >> load, in a second of work. It runs unchanged on Airflow 1.10, 2 and 3."""

from datetime import datetime
from inspect import signature

try:  # Airflow 3
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.providers.standard.operators.python import PythonOperator
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG

    try:  # Airflow 2
        from airflow.operators.bash import BashOperator
        from airflow.operators.python import PythonOperator
    except ImportError:  # Airflow 1.10
        from airflow.operators.bash_operator import BashOperator
        from airflow.operators.python_operator import PythonOperator

# Its name since Airflow 2.4, and the one before.
SCHEDULE = "schedule" if "schedule" in signature(DAG.__init__).parameters else "schedule_interval"


def extract():
    """Returns what a source would deliver. The return value travels to the next task as an XCom."""
    return "3 1 2"


def transform(numbers):
    """Gets the rendered template below, so always text."""
    return " ".join(sorted(numbers.split()))


with DAG(
    dag_id="three_tasks",
    description="extract >> transform >> load",
    start_date=datetime(2024, 1, 1),
    catchup=False,
    is_paused_upon_creation=False,
    tags=["example"],
    **{SCHEDULE: None}
) as dag:
    extracted = PythonOperator(task_id="extract", python_callable=extract)
    transformed = PythonOperator(
        task_id="transform",
        python_callable=transform,
        op_args=["{{ ti.xcom_pull(task_ids='extract') }}"],
    )
    loaded = BashOperator(
        task_id="load",
        bash_command="echo 'loaded: {{ ti.xcom_pull(task_ids=\"transform\") }}'",
    )

    extracted >> transformed >> loaded
