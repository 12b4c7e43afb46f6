"""probe_cost SECONDS ROLE LIVENESS READINESS: runs our probes at these periods, and those of Airflow's official chart at its periods, in
this pod; prints a line: the role, then processes and milliseconds of CPU of ours, and of theirs."""

import os
import subprocess
import sys
import threading
import time

role, (seconds, *periods) = sys.argv[2], map(int, (sys.argv[1], *sys.argv[3:]))
job = {"scheduler": "SchedulerJob", "triggerer": "TriggererJob", "dag-processor": "DagProcessorJob"}.get(role)
probe = ["kube-airflow-init", "probe"]
ours = [(period, probe + [kind, role]) for period, kind in zip(periods, ("liveness", "readiness"))]
theirs = []
if job:
    theirs = [(60, ["airflow", "jobs", "check", "--job-type", job, "--local"])]
elif role == "worker":
    app = "airflow.providers.celery.executors.celery_executor.app"
    theirs = [(60, ["python", "-m", "celery", "--app", app, "inspect", "ping", "-d", f"celery@{os.uname().nodename}"])]
# Their web server and flower are asked by the kubelet and by curl: that is counted as nothing.

# Theirs get what our init hands to a role; ours what an exec probe of the kubelet gets.
with open("/proc/1/environ") as file:
    container = dict(entry.split("=", 1) for entry in file.read().split("\0") if "=" in entry)
environments = {
    "ours": container,
    "theirs": {**os.environ, "CONNECTION_CHECK_MAX_COUNT": "0", "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"},
}
totals = {}


def repeat(side, period, command):
    begun = time.monotonic()
    for number in range(int(seconds // period)):
        time.sleep(max(0, begun + number * period - time.monotonic()))
        child = subprocess.Popen(command, env=environments[side], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            sys.stderr.write(f"{role}: {' '.join(command[:4])} ended with {status}: {said.decode()[-300:]}\n")
        runs, cpu = totals.get(side, (0, 0.0))
        totals[side] = (runs + 1, cpu + (usage.ru_utime + usage.ru_stime) * 1000)


lanes = []
for side, commands in (("ours", ours), ("theirs", theirs)):
    for period, command in commands:
        lanes.append(threading.Thread(target=repeat, args=(side, period, command)))
for lane in lanes:
    lane.start()
for lane in lanes:
    lane.join()
print(role, *(f"{number:.0f}" for side in ("ours", "theirs") for number in totals.get(side, (0, 0))))
