{{/* A Job. Its name changes with its pod, for a Job's pod cannot. (list top component pod) */}}
{{- define "kube-airflow.job" -}}
{{- $top := index . 0 }}{{ $component := list $top (index . 1) }}{{ $pod := index . 2 -}}
apiVersion: batch/v1
kind: Job
metadata:
  {{- include "kube-airflow.metadata" $component | replace (printf "name: %s\n" (include "kube-airflow.name" $component)) (printf "name: %s-%s\n" (include "kube-airflow.name" $component) (sha256sum $pod | trunc 8)) | nindent 2 }}
spec:
  # Services may be away for hours.
  backoffLimit: 50
  {{- if not (kindIs "invalid" $top.Values.jobs.ttl) }}
  ttlSecondsAfterFinished: {{ $top.Values.jobs.ttl }}
  {{- end }}
  template:
    {{- $pod | nindent 4 }}
{{- end }}

{{/* The row of a Job with Airflow in it. (list top name) */}}
{{- define "kube-airflow.job_row" -}}
{{- $ours := dict "name" (index . 1) "role" (index . 1) "where" "jobs" "tasks" false "grooms" false "port" dict "disk" dict -}}
{{ include "kube-airflow.over" (list (index . 0).Values.jobs $ours) }}
{{- end }}

{{/* The ServiceAccount of a Job, unless it has one that is there. (list top component) */}}
{{- define "kube-airflow.job_account" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "kube-airflow.metadata" (append . (index . 0).Values.jobs.service_account.annotations) | nindent 2 }}
automountServiceAccountToken: false
{{- end }}

{{- define "kube-airflow.keys_pod" -}}
{{- $row := include "kube-airflow.job_row" (list . "keys") | fromYaml }}{{ $options := include "kube-airflow.options" (list . $row) | fromYaml -}}
{{- $main := dict
    "name" "keys"
    "image" (include "kube-airflow.image" (list .))
    "imagePullPolicy" .Values.airflow.image.pull_policy
    "command" (list "kube-airflow-init")
    "args" (list "keys" "--create-secret" (include "kube-airflow.secret" .))
    "resources" $row.resources
    "terminationMessagePolicy" "FallbackToLogsOnError" }}
{{- /* It neither needs nor gets what is meant for Airflow. */}}
{{- $options = omit $options "initContainers" "containers" }}
{{- include "kube-airflow.pod" (dict "top" . "component" "keys" "where" "jobs" "options" $options "main" $main "uid" .Values.security.uid "gid" .Values.security.gid "token" true) }}
{{- end }}
