{{/* What all Airflow pods are told: plain settings in a ConfigMap, and references to Secrets. */}}

{{/* The map of all Airflow pods, as YAML: ours, and `airflow.config` beside it. */}}
{{- define "kube-airflow.settings" -}}
{{- $own := include "kube-airflow.own_settings" . | fromYaml }}{{ $values := .Values -}}
{{- range $name, $value := $values.airflow.config }}
{{- if include "kube-airflow.reveals" (list $name $value) }}
{{- fail (printf "airflow.config.%s: this is a ConfigMap, which anybody may read; take the value from a Secret by airflow.env, or from secrets.from" $name) }}
{{- end }}
{{- if hasKey $own $name }}{{ fail (printf "airflow.config.%s: the chart sets this option; use %s" $name (include "kube-airflow.key_of" $name)) }}{{ end }}
{{- if has $name (list "AIRFLOW__CORE__EXECUTOR" "AIRFLOW__CORE__DAGS_FOLDER" "AIRFLOW__API__PORT" "AIRFLOW__WEBSERVER__WEB_SERVER_PORT") }}
{{- fail (printf "airflow.config.%s: roles, ports, folders and policies depend on it; use %s" $name (include "kube-airflow.key_of" $name)) }}
{{- end }}
{{- $_ := set $own $name (include "kube-airflow.text" $value) }}
{{- end }}
{{- toYaml $own }}
{{- end }}

{{/* The value in which an option of Airflow is said. */}}
{{- define "kube-airflow.key_of" -}}
{{- $keys := dict "EXECUTOR" "airflow.executor" "DAGS_FOLDER" "airflow.dag_path or dags.git" "PLUGINS_FOLDER" "airflow.plugins_path"
    "WORKER_CONCURRENCY" "celery.worker_concurrency" "BASE_URL" "ingress.host and ingress.path.web" "STANDALONE_DAG_PROCESSOR" "roles.dag-processor.enabled"
    "AIRFLOW_HOME" "disk and airflow.volumes" "KUBE_AIRFLOW_RUN" "disk" "KUBE_AIRFLOW_EXECUTOR" "airflow.executor" "RABBITMQ_HOST" "celery.broker and rabbitmq.host" "REDIS_HOST" "celery.broker and redis.host"
    "PORT" "roles.webserver.service: its port is 8080 inside" "WEB_SERVER_PORT" "roles.webserver.service: its port is 8080 inside" }}
{{- $option := splitList "__" . | last -}}
{{ index $keys $option | default (get (dict "REMOTE" "logs.remote" "OTEL" "metrics.otel" "STATSD" "metrics.statsd") (splitList "_" $option | first) | default "the value that makes it") }}
{{- end }}

{{/* Whether something that nobody may read would be written down: `true` or nothing. A password in a URL or in JSON is one whatever the
     option is; what refers to another variable is none. (list name value) */}}
{{- define "kube-airflow.reveals" -}}
{{- $text := include "kube-airflow.text" (index . 1) -}}
{{- $option := `^AIRFLOW__[A-Z0-9_]+__(SQL_ALCHEMY_CONN(_ASYNC)?|BROKER_URL|RESULT_BACKEND|FERNET_KEY|[A-Z_]*SECRET_KEY|JWT_SECRET|[A-Z_]*BASIC_AUTH|SENTRY_DSN|BACKEND_KWARGS)$` -}}
{{- $variable := `(^|_)(PASSWORD|PASSWD|CLIENT_SECRET|SECRET_ACCESS_KEY|TOKEN|API_?KEY|PRIVATE_KEY)$|^(FERNET_KEY|POSTGRES_CREDS|RABBITMQ_CREDS|KUBE_AIRFLOW_API_SECRET_KEY|KUBE_AIRFLOW_JWT_SECRET)$` -}}
{{- $secret := or (regexMatch $option (index . 0)) (regexMatch $variable (index . 0)) -}}
{{- if and $text (or (and $secret (not (contains "$(" $text))) (include "kube-airflow.credentials" $text)) }}true{{ end }}
{{- end }}

{{/* Whether a text has a password in it, in a URL or in JSON: `true` or nothing. */}}
{{- define "kube-airflow.credentials" -}}
{{- if or (regexMatch `://[^/@\s:]*:[^/@\s${][^/@\s]*@` .) (regexMatch `(?i)"[a-z_]*(password|passwd|secret|token|api_?key)"\s*:\s*"[^"$]` .) }}true{{ end }}
{{- end }}

{{- define "kube-airflow.own_settings" -}}
{{- $values := .Values }}{{ $line := include "kube-airflow.line" . }}{{ $celery := include "kube-airflow.runs" (list . (list "Celery")) -}}
AIRFLOW_HOME: /run/airflow
KUBE_AIRFLOW_RUN: /run/airflow/.init
{{- with $values.disk.home_path }}
HOME: {{ . | quote }}
{{- end }}
{{- if not $values.dags.git.repository }}
AIRFLOW__CORE__DAGS_FOLDER: {{ $values.airflow.dag_path | quote }}
{{- end }}
AIRFLOW__CORE__PLUGINS_FOLDER: {{ $values.airflow.plugins_path | quote }}
KUBE_AIRFLOW_EXECUTOR: {{ $values.airflow.executor | quote }}
LOAD_DAGS_EXAMPLES: {{ $values.dags.load_examples | quote }}
KUBE_AIRFLOW_WAIT_TIMEOUT: {{ printf "%ds" (int $values.wait.services) }}
KUBE_AIRFLOW_MIGRATE_TIMEOUT: {{ printf "%ds" (int $values.wait.migration) }}
# The Job `migrate` migrates; everybody else waits for it.
KUBE_AIRFLOW_MIGRATE: wait
{{- $server := include "kube-airflow.database" . | fromYaml }}
{{- if $values.pgbouncer.enabled }}
POSTGRES_HOST: {{ include "kube-airflow.name" (list . "pgbouncer") | quote }}
POSTGRES_PORT: "6432"
{{- if not $server.POSTGRES_EXTRAS }}
{{- /* For the lock of whoever brings connections and variables from files. Without the TLS that the server wants, it is not asked. */}}
KUBE_AIRFLOW_DATABASE_DIRECT: {{ printf (ternary "[%s]:%s" "%s:%s" (contains ":" $server.POSTGRES_HOST)) $server.POSTGRES_HOST $server.POSTGRES_PORT | quote }}
{{- end }}
{{- else }}
{{- toYaml $server | nindent 0 }}
{{- end }}
POSTGRES_USER: {{ $values.postgres.user | quote }}
POSTGRES_DB: {{ $values.postgres.database | quote }}
{{- with $values.postgres.direct }}
KUBE_AIRFLOW_DATABASE_DIRECT: {{ . | quote }}
{{- end }}
{{- if eq (include "kube-airflow.broker" .) "redis" }}
REDIS_PORT: {{ include "kube-airflow.broker_port" . | quote }}
REDIS_DBNUM: {{ int $values.redis.database | quote }}
{{- if or $values.redis.tls.enabled $values.redis.tls.ca_secret }}
REDIS_PROTO: rediss://
{{- end }}
{{- if $values.redis.tls.ca_secret }}
KUBE_AIRFLOW_REDIS_CA: /etc/kube-airflow/redis/ca.crt
{{- end }}
{{- else if eq (include "kube-airflow.broker" .) "rabbitmq" }}
RABBITMQ_PORT: {{ include "kube-airflow.broker_port" . | quote }}
RABBITMQ_VHOST: {{ $values.rabbitmq.vhost | quote }}
{{- if $values.rabbitmq.tls.enabled }}
KUBE_AIRFLOW_RABBITMQ_TLS: "true"
{{- end }}
{{- if $values.rabbitmq.tls.ca_secret }}
KUBE_AIRFLOW_RABBITMQ_CA: /etc/kube-airflow/rabbitmq/ca.crt
{{- end }}
{{- end }}
{{- if $celery }}
AIRFLOW__CELERY__WORKER_CONCURRENCY: {{ $values.celery.worker_concurrency | quote }}
FLOWER_URL_PREFIX: {{ $values.ingress.path.flower | trimSuffix "/" | quote }}
{{- end }}
{{- if include "kube-airflow.runs" (list . (list "Kubernetes")) }}
{{ include "kube-airflow.kubernetes_option" (list . "POD_TEMPLATE_FILE") }}: /etc/kube-airflow/task/pod.yaml
{{- end }}
AIRFLOW_URL_PREFIX: {{ $values.ingress.path.web | trimSuffix "/" | quote }}
{{- if eq $line "3" }}
KUBE_AIRFLOW_API_URL: {{ printf "http://%s:8080" (include "kube-airflow.name" (list . "webserver")) | quote }}
{{- end }}
{{- if include "kube-airflow.proxied" . }}
{{ ternary "AIRFLOW__API__BASE_URL" "AIRFLOW__WEBSERVER__BASE_URL" (eq $line "3") }}: {{ include "kube-airflow.url" . | quote }}
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
{{- with $values.metrics.statsd.host }}
{{- $section := ternary "SCHEDULER" "METRICS" (eq $line "1") }}
AIRFLOW__{{ $section }}__STATSD_ON: "True"
AIRFLOW__{{ $section }}__STATSD_HOST: {{ . | quote }}
AIRFLOW__{{ $section }}__STATSD_PORT: {{ $values.metrics.statsd.port | quote }}
{{- end }}
{{- with $values.metrics.otel.host }}
AIRFLOW__METRICS__OTEL_ON: "True"
AIRFLOW__METRICS__OTEL_HOST: {{ . | quote }}
AIRFLOW__METRICS__OTEL_PORT: {{ $values.metrics.otel.port | quote }}
{{- end }}
KUBE_AIRFLOW_TEMPLATE: /etc/kube-airflow/template/airflow.cfg
{{- end }}

{{/* The variable of an option of the Kubernetes executor: its section has another name from 2.5 on. (list top option) */}}
{{- define "kube-airflow.kubernetes_option" -}}
AIRFLOW__{{ ternary "KUBERNETES_EXECUTOR" "KUBERNETES" (semverCompare ">=2.5.0-0" (index . 0).Values.airflow.version) }}__{{ index . 1 }}
{{- end }}

{{/* Where the metadata database itself is, and how it is reached, as variables. */}}
{{- define "kube-airflow.database" -}}
{{- $postgres := .Values.postgres }}{{ $tls := $postgres.tls -}}
POSTGRES_HOST: {{ $postgres.host | default (include "kube-airflow.name" (list . "postgres")) | quote }}
POSTGRES_PORT: {{ $postgres.port | quote }}
{{- with compact (list (and $tls.mode (printf "sslmode=%s" $tls.mode)) (and $tls.ca_secret "sslrootcert=/etc/kube-airflow/postgres/ca.crt")) }}
POSTGRES_EXTRAS: {{ printf "?%s" (join "&" .) | quote }}
{{- end }}
{{- end }}

{{- define "kube-airflow.pgbouncer_ini" -}}
{{- $server := include "kube-airflow.database" . | fromYaml }}{{ $values := .Values.pgbouncer }}{{ $tls := .Values.postgres.tls -}}
[databases]
* = host={{ $server.POSTGRES_HOST }} port={{ $server.POSTGRES_PORT }}

[pgbouncer]
listen_addr = *
listen_port = 6432
unix_socket_dir =
auth_type = scram-sha-256
auth_file = /run/pgbouncer/users.txt
; A connection is lent for a transaction.
pool_mode = transaction
default_pool_size = {{ $values.pool_size }}
max_client_conn = {{ $values.max_clients }}
; What drivers say first, and has no meaning here.
ignore_startup_parameters = extra_float_digits,options
server_tls_sslmode = {{ $tls.mode | default "prefer" }}
{{- if $tls.ca_secret }}
server_tls_ca_file = /etc/kube-airflow/postgres/ca.crt
{{- end }}
; One line for each connection of each task says nothing.
log_connections = 0
log_disconnections = 0
{{- range $key, $value := $values.config }}
{{ $key }} = {{ include "kube-airflow.text" $value }}
{{- end }}
{{ end }}

{{/* The template of airflow.cfg. Without any file, Airflow would write one of its own. */}}
{{- define "kube-airflow.cfg" -}}
{{ ternary .Values.airflow.airflow_cfg.data "# Every option comes from a variable." .Values.airflow.airflow_cfg.enable }}
{{- end }}

{{/* Whether a proxy of ours stands before the UI: `true` or nothing. */}}
{{- define "kube-airflow.proxied" -}}
{{- if or (include "kube-airflow.exposed" (list . "web")) .Values.gateway.enabled }}true{{ end }}
{{- end }}

{{/* Whether `web` or `flower` has an Ingress: `true` or nothing. (list top which) */}}
{{- define "kube-airflow.exposed" -}}
{{- $ingress := (index . 0).Values.ingress }}{{ $own := (index $ingress (index . 1)).enabled -}}
{{- if ternary $own $ingress.enabled (kindIs "bool" $own) }}true{{ end }}
{{- end }}

{{/* The hosts of an Ingress with their certificates, as YAML. (list top which) */}}
{{- define "kube-airflow.hosts" -}}
{{- $ingress := (index . 0).Values.ingress -}}
{{ (index $ingress (index . 1)).hosts | default (list (dict "name" $ingress.host "tls_secret" $ingress.tls_secret)) | toYaml }}
{{- end }}

{{/* Where people find the UI. */}}
{{- define "kube-airflow.url" -}}
{{- $ingress := include "kube-airflow.exposed" (list . "web") }}{{ $host := dict "name" .Values.ingress.host -}}
{{- if $ingress }}{{ $host = include "kube-airflow.hosts" (list . "web") | fromYamlArray | first }}{{ end -}}
{{- $tls := or (and $ingress $host.tls_secret) (and .Values.gateway.enabled .Values.gateway.tls) -}}
{{ ternary "https" "http" (not (not $tls)) }}://{{ $host.name }}{{ .Values.ingress.path.web | trimSuffix "/" }}
{{- end }}

{{/* Which broker there is: `rabbitmq`, `redis`, `url` for one whose address a Secret has, or nothing without Celery. */}}
{{- define "kube-airflow.broker" -}}
{{- if include "kube-airflow.runs" (list . (list "Celery")) }}{{ .Values.celery.broker }}{{ end }}
{{- end }}

{{/* Its ports; behind a URL that a Secret has, those of brokers and Sentinels. */}}
{{- define "kube-airflow.broker_ports" -}}
{{- if eq (include "kube-airflow.broker" .) "url" }}[5671, 5672, 6379, 26379]{{ else }}[{{ include "kube-airflow.broker_port" . }}]{{ end }}
{{- end }}

{{- define "kube-airflow.broker_port" -}}
{{- if eq (include "kube-airflow.broker" .) "redis" }}{{ .Values.redis.port }}{{ else -}}
{{ .Values.rabbitmq.port | default (ternary 5671 5672 (or .Values.rabbitmq.tls.enabled (ne .Values.rabbitmq.tls.ca_secret ""))) }}
{{- end }}
{{- end }}

{{/* One variable from a Secret. A pod that lacks it does not start, and its events name the key and the Secret. (list top variable [key]) */}}
{{- define "kube-airflow.reference" -}}
{{- $top := index . 0 }}{{ $variable := index . 1 }}{{ $key := last . -}}
{{- $from := index $top.Values.secrets.from $key | default (dict "name" (include "kube-airflow.secret" $top) "key" $key) -}}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef: {name: {{ $from.name | quote }}, key: {{ $from.key | quote }}}
{{- end }}

{{/* The variables of a pod that come from Secrets: passwords of the servers that it connects to, and keys that it uses; and what the
     template of airflow.cfg names, since every pod renders it. (list top row) */}}
{{- define "kube-airflow.variables" -}}
{{- $top := index . 0 }}{{ $role := (index . 1).role }}{{ $values := $top.Values }}{{ $user := $values.airflow.admin_user -}}
{{- $template := include "kube-airflow.cfg" $top -}}
{{- if include "kube-airflow.connects" (list $top $role "postgres") }}
{{ include "kube-airflow.reference" (list $top "POSTGRES_PASSWORD") }}
{{- end }}
{{- if and $values.pgbouncer.enabled (has $role (list "migrate" "cleanup")) }}
{{- range $name, $value := include "kube-airflow.database" $top | fromYaml }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}
{{- $broker := include "kube-airflow.broker" $top }}
{{- $brokered := and $broker (regexMatch (printf "%s_(HOST|CREDS|PASSWORD)|BROKER_URL" (upper $broker)) $template) }}
{{- if and $broker (or $brokered (include "kube-airflow.connects" (list $top $role "broker"))) }}
{{- if eq $broker "url" }}
{{ include "kube-airflow.reference" (list $top "AIRFLOW__CELERY__BROKER_URL" "BROKER_URL") }}
{{- else if eq $broker "redis" }}
- {name: REDIS_HOST, value: {{ $values.redis.host | default (include "kube-airflow.name" (list $top "redis")) | quote }}}
{{- if $values.redis.auth }}
{{ include "kube-airflow.reference" (list $top "REDIS_PASSWORD") }}
{{- end }}
{{- with $values.redis.user }}
- {name: KUBE_AIRFLOW_REDIS_USER, value: {{ . | quote }}}
{{- end }}
{{- else }}
- {name: RABBITMQ_HOST, value: {{ $values.rabbitmq.host | default (include "kube-airflow.name" (list $top "rabbitmq")) | quote }}}
{{ include "kube-airflow.reference" (list $top "RABBITMQ_PASSWORD") }}
- {name: RABBITMQ_CREDS, value: {{ printf "%s:$(RABBITMQ_PASSWORD)" $values.rabbitmq.user | quote }}}
{{- end }}
{{- end }}
{{- $keys := list }}
{{- range $use := include "kube-airflow.active" (list $top "tables/keys.yaml") | fromYamlArray }}
{{- if or (has $role $use.roles) (contains $use.key $template) }}{{ $keys = append $keys $use.key }}{{ end }}
{{- end }}
{{- range uniq $keys }}
{{ include "kube-airflow.reference" (list $top .) }}
{{- end }}
{{- if include "kube-airflow.reads_git" . }}
{{- $git := $values.dags.git }}
- {name: GIT_SYNC_REPO, value: {{ $git.repository | quote }}}
{{- with $git.ref }}
- {name: GITSYNC_REF, value: {{ . | quote }}}
{{- end }}
{{- with $git.sub_path }}
- {name: KUBE_AIRFLOW_GIT_SUBPATH, value: {{ . | quote }}}
{{- end }}
- {name: GITSYNC_PERIOD, value: {{ printf "%ds" (int $git.period) | quote }}}
{{- if eq $git.policy "hold" }}
- {name: GIT_SYNC_POLICY, value: hold}
- {name: GIT_SYNC_MAX_HOLD, value: {{ printf "%ds" (int $git.max_hold) | quote }}}
{{- end }}
{{- if and $git.secret (hasPrefix "http" $git.repository) }}
- name: GITSYNC_USERNAME
  valueFrom:
    secretKeyRef: {name: {{ $git.secret | quote }}, key: username}
- {name: GITSYNC_PASSWORD_FILE, value: /etc/git-secret/password}
{{- end }}
{{- if $git.known_hosts }}
- {name: GITSYNC_SSH_KNOWN_HOSTS_FILE, value: /etc/kube-airflow/git/known_hosts}
{{- end }}
{{- if include "kube-airflow.hears_hooks" . }}
- {name: GITSYNC_HOOK_SECRET_FILE, value: /etc/git-secret/webhook}
{{- end }}
{{- end }}
{{- if include "kube-airflow.watches_pods" (list $top $role) }}
- name: {{ include "kube-airflow.kubernetes_option" (list $top "NAMESPACE") }}
  valueFrom:
    fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}
{{- end }}
{{- if and $user (eq $role "webserver") }}
- {name: _AIRFLOW_WWW_USER_USERNAME, value: {{ $user | quote }}}
{{ include "kube-airflow.reference" (list $top "_AIRFLOW_WWW_USER_PASSWORD" "ADMIN_PASSWORD") }}
{{- else if and $user (eq $role "flower") }}
{{ include "kube-airflow.reference" (list $top "ADMIN_PASSWORD") }}
- {name: AIRFLOW__CELERY__FLOWER_BASIC_AUTH, value: {{ printf "%s:$(ADMIN_PASSWORD)" $user | quote }}}
{{- end }}
{{- end }}

{{/* Whether a role follows the repository: who runs code of DAGs, and the scheduler, in whose pods commands are given. `true` or nothing.
     (list top row) */}}
{{- define "kube-airflow.reads_git" -}}
{{- $row := index . 1 }}{{ $parses := has (include "kube-airflow.line" (index . 0)) ($row.parses | default list) -}}
{{- if and (index . 0).Values.dags.git.repository (or $row.tasks $parses (eq $row.role "scheduler")) }}true{{ end }}
{{- end }}

{{/* Whether a role is told of pushes: who reads the DAG files. `true` or nothing. (list top row) */}}
{{- define "kube-airflow.hears_hooks" -}}
{{- $git := (index . 0).Values.dags.git }}{{ $processor := include "kube-airflow.row" (list (index . 0) "dag-processor") | fromYaml -}}
{{- if and $git.repository $git.webhook.enabled (eq (index . 1).role (ternary "dag-processor" "scheduler" $processor.present)) }}true{{ end }}
{{- end }}

{{/* The port of the repository. */}}
{{- define "kube-airflow.git_port" -}}
{{- $said := regexFind "^[a-z]+://[^/]*:[0-9]+/" .Values.dags.git.repository | regexFind "[0-9]+/$" | trimSuffix "/" -}}
{{- if $said }}{{ $said }}{{ else if hasPrefix "https:" .Values.dags.git.repository }}443{{ else if hasPrefix "http:" .Values.dags.git.repository }}80{{ else }}22{{ end }}
{{- end }}

{{/* Whether a role has to do with the pods of the Kubernetes executor: who makes them, who reads their logs, and they themselves, which show in
     the UI what they are made of. `true` or nothing. (list top role) */}}
{{- define "kube-airflow.watches_pods" -}}
{{- if and (has (index . 1) (list "scheduler" "webserver" "task")) (include "kube-airflow.runs" (list (index . 0) (list "Kubernetes"))) }}true{{ end }}
{{- end }}

{{/* Whether a pod connects to another one: `true` or nothing. (list top from to) */}}
{{- define "kube-airflow.connects" -}}
{{- $from := index . 1 }}{{ $to := index . 2 }}{{ $found := false -}}
{{- range $edge := include "kube-airflow.active" (list (index . 0) "tables/connections.yaml") | fromYamlArray }}
{{- if and (eq $edge.to $to) (has $from $edge.from) }}{{ $found = true }}{{ end }}
{{- end }}
{{- ternary "true" "" $found }}
{{- end }}
