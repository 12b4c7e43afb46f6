{{/* Pods. All of them are made by the first helper; what may be said of a pod in the values is in the second. */}}

{{/* (dict top component where options main volumes uid gid [annotations token grace restart claim named]). `main` is the container; without `grace` the pod is one of a Job; with `restart` it is one of a task; `claim` is the name of a volume that its owner brings. */}}
{{- define "kube-airflow.pod" -}}
{{- $top := .top }}{{ $options := .options -}}
{{- $security := include "kube-airflow.over" (list (include "kube-airflow.container_security" . | fromYaml) $options.securityContext) | fromYaml -}}
{{- $secure := list }}
{{- range $options.initContainers }}
{{- $secure = append $secure (set (deepCopy .) "securityContext" (include "kube-airflow.over" (list $security .securityContext) | fromYaml)) }}
{{- end }}
{{- $containers := list (set (deepCopy .main) "securityContext" $security) }}
{{- range $options.containers }}
{{- $containers = append $containers (set (deepCopy .) "securityContext" (include "kube-airflow.over" (list $security .securityContext) | fromYaml)) }}
{{- end }}
{{- include "kube-airflow.check_pod" (dict "where" .where "options" $options "containers" (concat $secure $containers) "volumes" .volumes "claim" .claim) -}}
metadata:
  {{- with .named }}
  name: {{ . }}
  {{- end }}
  labels:
    {{- include "kube-airflow.labels" (list $top .component $options.labels) | nindent 4 }}
  {{- with include "kube-airflow.over" (list (.annotations | default dict) $options.annotations) | fromYaml }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "kube-airflow.account" (list $top .component ($options.service_account | default dict)) | quote }}
  automountServiceAccountToken: {{ .token | default false }}
  enableServiceLinks: false
  {{- if .grace }}
  terminationGracePeriodSeconds: {{ .grace }}
  {{- end }}
  {{- if or .restart (not .grace) }}
  restartPolicy: {{ .restart | default "OnFailure" }}
  {{- end }}
  {{- with include "kube-airflow.scheduling" (list $top .component $options.scheduling) | fromYaml }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  securityContext:
    {{- include "kube-airflow.over" (list (include "kube-airflow.pod_security" . | fromYaml) $options.podSecurityContext) | nindent 4 }}
  {{- with $top.Values.airflow.image.pull_secrets }}
  imagePullSecrets:
    {{- range uniq . }}
    - name: {{ . | quote }}
    {{- end }}
  {{- end }}
  {{- with $options.hostAliases }}
  hostAliases:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $options.dnsPolicy }}
  dnsPolicy: {{ . }}
  {{- end }}
  {{- with $options.dnsConfig }}
  dnsConfig:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $secure }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    {{- toYaml $containers | nindent 4 }}
  {{- with .volumes }}
  volumes:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* What may be said of a pod: for all pods of Airflow, and over it for one role, group or Job, as YAML. (list top row) */}}
{{- define "kube-airflow.options" -}}
{{- $all := (index . 0).Values.airflow }}{{ $row := index . 1 -}}
{{- $options := dict "service_account" ($row.service_account | default dict) -}}
{{- range $key := list "labels" "annotations" "dnsConfig" "lifecycle" "podSecurityContext" "securityContext" }}
{{- $_ := set $options $key (include "kube-airflow.over" (list (index $all $key) (index $row $key)) | fromYaml) }}
{{- end }}
{{- range $key, $name := dict "env" "name" "initContainers" "name" "containers" "name" "volumes" "name" "volumeMounts" "mountPath" "hostAliases" "ip" }}
{{- $_ := set $options $key (include "kube-airflow.by" (list $name (index $all $key) (index $row $key | default list)) | fromYamlArray) }}
{{- end }}
{{- $_ := set $options "envFrom" (concat $all.envFrom ($row.envFrom | default list)) }}
{{- $_ := set $options "dnsPolicy" ($row.dnsPolicy | default $all.dnsPolicy) }}
{{- $_ := set $options "scheduling" ($row.scheduling | default dict) }}
{{- toYaml $options }}
{{- end }}

{{/* The pod of a role, a group of workers or a Job with Airflow in it. (dict top row args) */}}
{{- define "kube-airflow.airflow_pod" -}}
{{- $top := .top }}{{ $row := .row }}{{ $values := .top.Values }}{{ $ends := hasKey .row "grace" }}{{ $lives := and $ends (ne .row.role "task") -}}
{{- $options := include "kube-airflow.options" (list $top $row) | fromYaml -}}
{{- $env := include "kube-airflow.variables" (list $top $row) | fromYamlArray -}}
{{- if $ends }}{{ $env = append $env (dict "name" "KUBE_AIRFLOW_GRACE" "value" ($row.grace | toString)) }}{{ end }}
{{- if $lives }}
{{- if include "kube-airflow.serves" (list $top $row) }}{{ $env = append $env (dict "name" "KUBE_AIRFLOW_HTTP" "value" ":9794") }}{{ end }}
{{- if ne (int $row.worker_concurrency) (int $values.celery.worker_concurrency) }}
{{- $env = append $env (dict "name" "AIRFLOW__CELERY__WORKER_CONCURRENCY" "value" (toString (int $row.worker_concurrency))) }}
{{- end }}
{{- if include "kube-airflow.groomed" (list $top $row) }}
{{- $env = concat $env (list (dict "name" "KUBE_AIRFLOW_LOGS_KEEP" "value" (printf "%vd" $values.logs.groomer.days)) (dict "name" "KUBE_AIRFLOW_LOGS_MAX" "value" (printf "%vMi" (include "kube-airflow.megabytes" (list $top $row))))) }}
{{- end }}
{{- if and (dig "keda" "enabled" false $row) (eq $row.keda.by "broker") }}
{{- if eq (include "kube-airflow.broker" $top) "rabbitmq" }}{{ $env = append $env (dict "name" "KUBE_AIRFLOW_RABBITMQ_USER" "value" $values.rabbitmq.user) }}{{ end }}
{{- end }}
{{- end }}
{{- $volumes := include "kube-airflow.volumes" (list $top $row) | fromYamlArray }}{{ $mounts := include "kube-airflow.mounts" (list $top $row) | fromYamlArray -}}
{{- $where := printf "airflow or %s" $row.where -}}
{{- include "kube-airflow.own" (list (printf "env of %s" $where) "name" $env $options.env "leave it out, or give its value by secrets.from or the key of its own") }}
{{- include "kube-airflow.own" (list (printf "volumes of %s" $where) "name" $volumes $options.volumes "give yours another name; disk and logs have the sizes of ours") }}
{{- include "kube-airflow.own" (list (printf "volumeMounts of %s" $where) "mountPath" $mounts $options.volumeMounts "mount yours elsewhere; disk and logs have the sizes of ours") }}
{{- range $options.env }}
{{- if has .name (list "AIRFLOW_HOME" "KUBE_AIRFLOW_RUN" "KUBE_AIRFLOW_EXECUTOR" "AIRFLOW__CORE__EXECUTOR" "AIRFLOW__API__PORT" "AIRFLOW__WEBSERVER__WEB_SERVER_PORT" "RABBITMQ_HOST" "REDIS_HOST") }}
{{- fail (printf "env of %s: roles, ports, policies and folders depend on %s; use %s" $where .name (include "kube-airflow.key_of" .name)) }}
{{- end }}
{{- end }}
{{- $ports := list }}
{{- range $name, $number := merge (ternary (dict "metrics" 9794) dict (and $lives (not (empty (include "kube-airflow.serves" (list $top $row)))))) $row.port }}
{{- $ports = append $ports (dict "name" $name "containerPort" (int $number)) }}
{{- end }}
{{- $resources := deepCopy $row.resources }}
{{- /* Whoever says a limit requests as much. */}}
{{- if and $values.disk.request (not (hasKey ($resources.limits | default dict) "ephemeral-storage")) }}
{{- $_ := set $resources "requests" (merge ($resources.requests | default dict) (dict "ephemeral-storage" $values.disk.request)) }}
{{- end }}
{{- /* The executor looks for a container of this name, and gives it arguments. */}}
{{- $main := dict
    "name" (ternary "base" $row.role (eq $row.role "task"))
    "image" (include "kube-airflow.image" (list $top ($row.image | default dict)))
    "imagePullPolicy" $values.airflow.image.pull_policy
    "command" (list "kube-airflow-init")
    "env" (concat $env $options.env)
    "envFrom" (concat (list (dict "configMapRef" (dict "name" (include "kube-airflow.name" (list $top "airflow-settings"))))) ($options.envFrom | default list))
    "resources" $resources
    "terminationMessagePolicy" "FallbackToLogsOnError"
    "volumeMounts" (concat $mounts $options.volumeMounts) }}
{{- if .args }}{{ $_ := set $main "args" .args }}{{ end }}
{{- if $ports }}{{ $_ := set $main "ports" $ports }}{{ end }}
{{- if and $ends $options.lifecycle }}{{ $_ := set $main "lifecycle" $options.lifecycle }}{{ end }}
{{- if $lives }}{{ $main = merge $main (include "kube-airflow.probes" (list $values.wait (hasKey $row.port "http")) | fromYaml) }}{{ end }}
{{- $annotations := dict "kube-airflow/configuration" (cat (include "kube-airflow.settings" $top) (include "kube-airflow.cfg" $top) (toJson $values.airflow.webserver_config) (toJson $values.airflow.local_settings) | sha256sum | trunc 16) }}
{{- with $values.secrets.revision }}{{ $_ := set $annotations "kube-airflow/secrets" (include "kube-airflow.text" .) }}{{ end }}
{{- $names := list (dict "name" $main.name) }}
{{- include "kube-airflow.own" (list (printf "containers and initContainers of %s" $where) "name" $names (concat $options.initContainers $options.containers) "give yours another name") }}
{{- $pod := dict "top" $top "component" $row.name "where" $where "options" $options "main" $main "annotations" $annotations
    "volumes" (concat $volumes $options.volumes) "uid" $values.security.uid "gid" $values.security.gid
    "token" (not (empty (or (and $row.tasks $values.delegation.enabled) (and $lives (include "kube-airflow.watches_pods" (list $top $row.role)))))) }}
{{- if and $ends (not $lives) }}{{ $_ := set $pod "restart" "Never" }}{{ $_ := set $pod "named" "task" }}{{ end }}
{{- if include "kube-airflow.keeps_logs" (list $top $row) }}{{ $_ := set $pod "claim" "logs" }}{{ end }}
{{- /* The init gets `grace` seconds; the kubelet kills only after that. */}}
{{- if $ends }}{{ $_ := set $pod "grace" (add $row.grace 10) }}{{ end }}
{{- include "kube-airflow.pod" $pod }}
{{- end }}

{{/* The numbers are those of docs/probes.md; a probe of ours answers after 8 s at the latest. (list wait traffic) */}}
{{- define "kube-airflow.probes" -}}
{{- $wait := index . 0 -}}
{{- range $kind, $numbers := dict
    "startup" (dict "periodSeconds" 5 "failureThreshold" (div (add $wait.services $wait.migration $wait.start 4) 5))
    "liveness" (dict "periodSeconds" 20 "failureThreshold" 4)
    "readiness" (dict "periodSeconds" (ternary 10 30 (index . 1)) "failureThreshold" 2) }}
{{ $kind }}Probe:
  exec:
    command: [kube-airflow-init, probe, {{ $kind }}]
  timeoutSeconds: 10
  {{- toYaml $numbers | nindent 2 }}
{{- end }}
{{- end }}

{{/* Pod Security "restricted": this for the pod, the next for each container. (dict uid gid) */}}
{{- define "kube-airflow.pod_security" -}}
runAsNonRoot: true
{{- if not (kindIs "invalid" .uid) }}
runAsUser: {{ .uid }}
{{- end }}
{{- if not (kindIs "invalid" .gid) }}
runAsGroup: {{ .gid }}
fsGroup: {{ .gid }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "kube-airflow.container_security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where a pod may be: for all pods, and key by key over it for one. `spread` is ours. (list top component scheduling) */}}
{{- define "kube-airflow.scheduling" -}}
{{- $scheduling := deepCopy (index . 0).Values.scheduling }}{{ $component := list (index . 0) (index . 1) -}}
{{- range $key, $value := index . 2 | default dict }}{{ $_ := set $scheduling $key $value }}{{ end }}
{{- $spread := list }}
{{- $said := list }}
{{- range $scheduling.topologySpreadConstraints }}{{ if ne (.whenUnsatisfiable | default "") "DoNotSchedule" }}{{ $said = append $said .topologyKey }}{{ end }}{{ end }}
{{- range $scheduling.spread }}
{{- $labels := dict "matchLabels" (include "kube-airflow.selector" $component | fromYaml) }}
{{- if not (has . $said) }}{{ $spread = append $spread (dict "topologyKey" . "maxSkew" 1 "whenUnsatisfiable" "ScheduleAnyway" "labelSelector" $labels) }}{{ end }}
{{- end }}
{{- with concat $spread ($scheduling.topologySpreadConstraints | default list) }}{{ $_ := set $scheduling "topologySpreadConstraints" . }}{{ end }}
{{- with omit $scheduling "spread" }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* How much of the logs stays: three quarters of the folder, unless the values say it. (list top row) */}}
{{- define "kube-airflow.megabytes" -}}
{{- $size := divf (include "kube-airflow.number" (include "kube-airflow.log_size" .)) 1048576 -}}
{{- $said := (index . 0).Values.logs.groomer.megabytes -}}
{{- if kindIs "invalid" $said }}{{ mulf $size 0.75 | floor | int }}{{ else }}{{ int $said }}{{ end }}
{{- end }}

{{/* (list top row) */}}
{{- define "kube-airflow.log_size" -}}
{{ include "kube-airflow.text" ((index . 1).disk.logs | default (index . 0).Values.logs.size) }}
{{- end }}

{{/* Folders of all Airflow pods: volume, and the places where it is mounted. (list top row) */}}
{{- define "kube-airflow.mounts" -}}
{{- $row := index . 1 }}{{ $values := (index . 0).Values -}}
- {name: home, mountPath: /run/airflow}
- {name: logs, mountPath: /run/airflow/logs}
- {name: tmp, mountPath: /tmp}
{{- with $values.disk.home_path }}
- {name: user, mountPath: {{ . | quote }}}
{{- end }}
- {name: airflow-cfg, mountPath: /etc/kube-airflow/template, readOnly: true}
{{- if and (ne $row.role "webserver") (include "kube-airflow.watches_pods" (list (index . 0) $row.role)) }}
- {name: task-pod, mountPath: /etc/kube-airflow/task, readOnly: true}
{{- end }}
{{- range include "kube-airflow.python" . | fromYamlArray }}
- {name: {{ .name }}, mountPath: {{ printf "/run/airflow/%s" .path | quote }}, subPath: {{ base .path }}, readOnly: true}
{{- end }}
{{- if include "kube-airflow.reads_git" . }}
- {name: git, mountPath: /run/airflow/git}
{{- if include "kube-airflow.git_keys" . }}
- {name: git-secret, mountPath: /etc/git-secret, readOnly: true}
{{- end }}
{{- if $values.dags.git.known_hosts }}
- {name: git-hosts, mountPath: /etc/kube-airflow/git, readOnly: true}
{{- end }}
{{- end }}
{{- if $values.persistence.enabled }}
- {name: dags, mountPath: {{ $values.airflow.dag_path | quote }}, readOnly: true}
{{- end }}
{{- if $values.postgres.tls.ca_secret }}
- {name: postgres-ca, mountPath: /etc/kube-airflow/postgres, readOnly: true}
{{- end }}
{{- with include "kube-airflow.broker" (index . 0) }}
{{- if dig "tls" "ca_secret" "" (index $values . | default dict) }}
- {name: {{ . }}-ca, mountPath: /etc/kube-airflow/{{ . }}, readOnly: true}
{{- end }}
{{- end }}
{{- end }}

{{/* Files of Python that Airflow looks for below its home, as far as the values have them. (list top row) */}}
{{- define "kube-airflow.python" -}}
{{- $airflow := (index . 0).Values.airflow }}{{ $files := list -}}
{{- if and (eq (index . 1).name "webserver") (or $airflow.webserver_config.data $airflow.webserver_config.secret) }}
{{- $files = append $files (dict "name" "webserver-config" "path" "webserver_config.py" "from" $airflow.webserver_config) }}
{{- end }}
{{- if or $airflow.local_settings.data $airflow.local_settings.secret }}
{{- $files = append $files (dict "name" "local-settings" "path" "config/airflow_local_settings.py" "from" $airflow.local_settings) }}
{{- end }}
{{- toYaml $files }}
{{- end }}

{{/* (list top row) */}}
{{- define "kube-airflow.volumes" -}}
{{- $top := index . 0 }}{{ $row := index . 1 }}{{ $values := $top.Values -}}
# Airflow's home is in memory: what the init renders holds passwords.
- name: home
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
- name: tmp
  emptyDir: {sizeLimit: {{ include "kube-airflow.text" ($row.disk.tmp | default $values.disk.tmp) | quote }}}
{{- if $values.disk.home_path }}
# HOME: for whoever keeps something there, such as the configuration of a tool.
- name: user
  emptyDir: {sizeLimit: {{ include "kube-airflow.text" ($row.disk.home | default $values.disk.home) | quote }}}
{{- end }}
{{- if include "kube-airflow.shares_logs" . }}
- name: logs
  persistentVolumeClaim:
    claimName: {{ $values.logs.persistence.existingClaim | default (include "kube-airflow.name" (list $top "airflow-logs")) | quote }}
{{- else if not (include "kube-airflow.keeps_logs" .) }}
- name: logs
  emptyDir: {sizeLimit: {{ include "kube-airflow.log_size" . | quote }}}
{{- end }}
- name: airflow-cfg
  configMap:
    name: {{ include "kube-airflow.name" (list $top "airflow-cfg") }}
{{- if and (ne $row.role "webserver") (include "kube-airflow.watches_pods" (list $top $row.role)) }}
- name: task-pod
  configMap:
    name: {{ include "kube-airflow.name" (list $top "airflow-task-pod") }}
{{- end }}
{{- range include "kube-airflow.python" . | fromYamlArray }}
- name: {{ .name }}
  {{- if .from.secret }}
  secret: {secretName: {{ .from.secret | quote }}}
  {{- else }}
  configMap:
    name: {{ include "kube-airflow.name" (list $top "airflow-python") }}
  {{- end }}
{{- end }}
{{- if include "kube-airflow.reads_git" . }}
- name: git
  emptyDir: {sizeLimit: {{ include "kube-airflow.text" $values.dags.git.size | quote }}}
{{- with include "kube-airflow.git_keys" . | fromYamlArray }}
- name: git-secret
  secret:
    secretName: {{ $values.dags.git.secret | quote }}
    items:
      {{- range . }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- end }}
{{- if $values.dags.git.known_hosts }}
- name: git-hosts
  configMap:
    name: {{ include "kube-airflow.name" (list $top "airflow-git") }}
{{- end }}
{{- end }}
{{- if $values.persistence.enabled }}
- name: dags
  persistentVolumeClaim:
    claimName: {{ $values.persistence.existingClaim | default (include "kube-airflow.name" (list $top "airflow-dags")) | quote }}
{{- end }}
{{- with $values.postgres.tls.ca_secret }}
- name: postgres-ca
  secret: {secretName: {{ . | quote }}, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}
{{- with include "kube-airflow.broker" $top }}
{{- $name := . }}
{{- with dig "tls" "ca_secret" "" (index $values . | default dict) }}
- name: {{ $name }}-ca
  secret: {secretName: {{ . | quote }}, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}
{{- end }}
{{- end }}

{{/* What a role reads of the Secret of the repository, as YAML; nothing, where there is none. (list top row) */}}
{{- define "kube-airflow.git_keys" -}}
{{- $git := (index . 0).Values.dags.git }}{{ $keys := list -}}
{{- if $git.secret }}
{{- $keys = ternary (list "password") (list "ssh") (hasPrefix "http" $git.repository) }}
{{- if and (has "ssh" $keys) (not $git.known_hosts) }}{{ $keys = append $keys "known_hosts" }}{{ end }}
{{- if include "kube-airflow.hears_hooks" . }}{{ $keys = append $keys "webhook" }}{{ end }}
{{- end }}
{{- if $keys }}{{ toYaml $keys }}{{ end }}
{{- end }}

{{/* Whether a role has a port of our own: for metrics, or for pushes to the repository. `true` or nothing. (list top row) */}}
{{- define "kube-airflow.serves" -}}
{{- if or (index . 0).Values.metrics.enabled (include "kube-airflow.hears_hooks" .) }}true{{ end }}
{{- end }}

{{/* Whether the log folder is on a volume of the pod's own: of who runs tasks. `true` or nothing. (list top row) */}}
{{- define "kube-airflow.keeps_logs" -}}
{{- $row := index . 1 }}{{ $persistence := (index . 0).Values.logs.persistence -}}
{{- if and $persistence.enabled (not $persistence.shared) $row.tasks (has $row.role (list "worker" "scheduler")) }}true{{ end }}
{{- end }}

{{/* Whether it is on the one volume of all: of who writes logs, and of the UI, which reads them. `true` or nothing. (list top row) */}}
{{- define "kube-airflow.shares_logs" -}}
{{- $persistence := (index . 0).Values.logs.persistence -}}
{{- if and $persistence.enabled $persistence.shared (or (index . 1).grooms (has (index . 1).role (list "webserver" "task"))) }}true{{ end }}
{{- end }}

{{/* Whether a role grooms its logs; those that share one volume take turns by themselves. `true` or nothing. (list top row) */}}
{{- define "kube-airflow.groomed" -}}
{{- if and (index . 0).Values.logs.groomer.enabled (index . 1).grooms }}true{{ end }}
{{- end }}
