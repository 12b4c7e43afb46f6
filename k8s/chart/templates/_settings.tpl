{{/* What all Airflow pods are told: plain settings in a ConfigMap, and references to Secrets. */}}

{{- define "airflow.settings" -}}
{{- $values := .Values }}{{ $line := include "airflow.line" . }}{{ $celery := eq $values.airflow.executor "Celery" -}}
AIRFLOW_HOME: /run/airflow
KUBE_AIRFLOW_RUN: /run/airflow/.init
AIRFLOW__CORE__DAGS_FOLDER: {{ $values.airflow.dag_path }}
AIRFLOW__CORE__PLUGINS_FOLDER: {{ $values.airflow.plugins_path }}
KUBE_AIRFLOW_EXECUTOR: {{ $values.airflow.executor }}
LOAD_DAGS_EXAMPLES: {{ $values.dags.load_examples | quote }}
KUBE_AIRFLOW_WAIT_TIMEOUT: {{ printf "%ds" (int $values.wait.services) }}
KUBE_AIRFLOW_MIGRATE_TIMEOUT: {{ printf "%ds" (int $values.wait.migration) }}
# The Job `migrate` migrates; everybody else waits for it.
KUBE_AIRFLOW_MIGRATE: wait
POSTGRES_HOST: {{ $values.postgres.host | default (include "airflow.name" (list . "postgres")) }}
POSTGRES_PORT: {{ $values.postgres.port | quote }}
POSTGRES_USER: {{ $values.postgres.user | quote }}
POSTGRES_DB: {{ $values.postgres.database | quote }}
{{- $tls := $values.postgres.tls }}
{{- $extras := compact (list (and $tls.mode (printf "sslmode=%s" $tls.mode)) (and $tls.ca_secret "sslrootcert=/etc/kube-airflow/postgres/ca.crt")) }}
{{- with $extras }}
POSTGRES_EXTRAS: {{ printf "?%s" (join "&" .) | quote }}
{{- end }}
{{- with $values.postgres.direct }}
KUBE_AIRFLOW_DATABASE_DIRECT: {{ . | quote }}
{{- end }}
{{- if $celery }}
RABBITMQ_HOST: {{ $values.rabbitmq.host | default (include "airflow.name" (list . "rabbitmq")) }}
RABBITMQ_PORT: {{ include "airflow.broker_port" . | quote }}
RABBITMQ_VHOST: {{ $values.rabbitmq.vhost | quote }}
{{- if $values.rabbitmq.tls.enabled }}
KUBE_AIRFLOW_RABBITMQ_TLS: "true"
{{- end }}
{{- if $values.rabbitmq.tls.ca_secret }}
KUBE_AIRFLOW_RABBITMQ_CA: /etc/kube-airflow/rabbitmq/ca.crt
{{- end }}
AIRFLOW__CELERY__WORKER_CONCURRENCY: {{ $values.celery.worker_concurrency | quote }}
FLOWER_URL_PREFIX: {{ $values.ingress.path.flower | trimSuffix "/" | quote }}
{{- end }}
AIRFLOW_URL_PREFIX: {{ $values.ingress.path.web | trimSuffix "/" | quote }}
{{- if eq $line "3" }}
KUBE_AIRFLOW_API_URL: http://{{ include "airflow.name" (list . "webserver") }}:8080
{{- end }}
{{- if or $values.ingress.enabled $values.gateway.enabled }}
{{ ternary "AIRFLOW__API__BASE_URL" "AIRFLOW__WEBSERVER__BASE_URL" (eq $line "3") }}: {{ include "airflow.url" . }}
{{ ternary "FORWARDED_ALLOW_IPS" "AIRFLOW__WEBSERVER__ENABLE_PROXY_FIX" (eq $line "3") }}: {{ ternary "*" "True" (eq $line "3") | quote }}
{{- end }}
{{- if and (index $values.roles "dag-processor" "enabled") (eq $line "2") }}
AIRFLOW__SCHEDULER__STANDALONE_DAG_PROCESSOR: "True"
{{- end }}
{{- with $values.logs.remote.folder }}
{{- $section := ternary "CORE" "LOGGING" (eq $line "1") }}
AIRFLOW__{{ $section }}__REMOTE_LOGGING: "True"
AIRFLOW__{{ $section }}__REMOTE_BASE_LOG_FOLDER: {{ . | quote }}
AIRFLOW__{{ $section }}__REMOTE_LOG_CONN_ID: {{ $values.logs.remote.conn_id | quote }}
{{- end }}
KUBE_AIRFLOW_TEMPLATE: /etc/kube-airflow/template/airflow.cfg
{{- range $name, $value := $values.airflow.config }}
{{ $name }}: {{ include "airflow.text" $value | quote }}
{{- end }}
{{- end }}

{{/* A value as text. A number from a file is a float to templates, and a large one would become 1.048576e+06. */}}
{{- define "airflow.text" -}}
{{ if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* The template of airflow.cfg. Without any file, Airflow would write one of its own. */}}
{{- define "airflow.cfg" -}}
{{ ternary .Values.airflow.airflow_cfg.data "# Every option comes from a variable." .Values.airflow.airflow_cfg.enable }}
{{- end }}

{{/* Where people find the UI. */}}
{{- define "airflow.url" -}}
{{- $tls := or (and .Values.ingress.enabled (ne .Values.ingress.tls_secret "")) (and .Values.gateway.enabled .Values.gateway.tls) -}}
{{ ternary "https" "http" $tls }}://{{ .Values.ingress.host }}{{ .Values.ingress.path.web | trimSuffix "/" }}
{{- end }}

{{- define "airflow.broker_port" -}}
{{ .Values.rabbitmq.port | default (ternary 5671 5672 (or .Values.rabbitmq.tls.enabled (ne .Values.rabbitmq.tls.ca_secret ""))) }}
{{- end }}

{{/* One variable from a Secret. A pod that lacks it does not start, and its events name the key and the Secret. (list top variable [key]) */}}
{{- define "airflow.reference" -}}
{{- $top := index . 0 }}{{ $variable := index . 1 }}{{ $key := last . -}}
{{- $from := get $top.Values.secrets.from $key | default (dict "name" (include "airflow.secret" $top) "key" $key) -}}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef: {name: {{ $from.name | quote }}, key: {{ $from.key | quote }}}
{{- end }}

{{/* The variables of a pod that come from Secrets. (list top row) */}}
{{- define "airflow.variables" -}}
{{- $top := index . 0 }}{{ $row := index . 1 }}{{ $values := $top.Values -}}
{{ include "airflow.reference" (list $top "POSTGRES_PASSWORD") }}
{{- if eq $values.airflow.executor "Celery" }}
{{ include "airflow.reference" (list $top "RABBITMQ_PASSWORD") }}
- {name: RABBITMQ_CREDS, value: {{ printf "%s:$(RABBITMQ_PASSWORD)" $values.rabbitmq.user | quote }}}
{{- end }}
{{ include "airflow.reference" (list $top "FERNET_KEY") }}
{{ include "airflow.reference" (list $top "KUBE_AIRFLOW_API_SECRET_KEY") }}
{{- if eq (include "airflow.line" $top) "3" }}
{{ include "airflow.reference" (list $top "KUBE_AIRFLOW_JWT_SECRET") }}
{{- end }}
{{- with $values.airflow.admin_user }}
{{- if eq $row.name "webserver" }}
- {name: _AIRFLOW_WWW_USER_USERNAME, value: {{ . | quote }}}
{{ include "airflow.reference" (list $top "_AIRFLOW_WWW_USER_PASSWORD" "ADMIN_PASSWORD") }}
{{- else if eq $row.name "flower" }}
{{ include "airflow.reference" (list $top "ADMIN_PASSWORD") }}
- {name: AIRFLOW__CELERY__FLOWER_BASIC_AUTH, value: {{ printf "%s:$(ADMIN_PASSWORD)" . | quote }}}
{{- end }}
{{- end }}
{{- end }}
