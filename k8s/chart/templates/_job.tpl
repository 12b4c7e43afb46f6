{{/* A Job. Its name changes with its pod, for a Job's pod cannot. (list top component pod) */}}
{{- define "airflow.job" -}}
{{- $top := index . 0 }}{{ $component := list $top (index . 1) }}{{ $pod := index . 2 -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "airflow.name" $component }}-{{ sha256sum $pod | trunc 8 }}
  labels:
    {{- include "airflow.labels" $component | nindent 4 }}
spec:
  # Services may be away for hours.
  backoffLimit: 50
  {{- if not (kindIs "invalid" $top.Values.jobs.ttl) }}
  ttlSecondsAfterFinished: {{ $top.Values.jobs.ttl }}
  {{- end }}
  template:
    {{- $pod | nindent 4 }}
{{- end }}

{{- define "airflow.keys_pod" -}}
{{- $component := list . "keys" }}{{ $row := merge (dict "name" "keys") .Values.jobs -}}
metadata:
  labels:
    {{- include "airflow.labels" $component | nindent 4 }}
spec:
  serviceAccountName: {{ include "airflow.name" $component }}
  automountServiceAccountToken: true
  enableServiceLinks: false
  restartPolicy: OnFailure
  {{- with include "airflow.scheduling" (list . $row) | trim }}
  {{- nindent 2 . }}
  {{- end }}
  securityContext:
    {{- include "airflow.pod_security" (dict "uid" .Values.security.uid "gid" .Values.security.gid) | nindent 4 }}
  {{- with .Values.airflow.image.pull_secrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . | quote }}
    {{- end }}
  {{- end }}
  containers:
    - name: keys
      image: {{ include "airflow.image" . }}
      imagePullPolicy: {{ .Values.airflow.image.pull_policy }}
      command: [kube-airflow-init]
      args: [keys, --create-secret, {{ include "airflow.secret" . }}]
      resources:
        {{- toYaml $row.resources | nindent 8 }}
      terminationMessagePolicy: FallbackToLogsOnError
      {{- include "airflow.container_security" . | nindent 6 }}
{{- end }}
