{{/* A role, or a group of workers: its row in tables/roles.yaml and its values, as one map, with what follows from version and executor. */}}

{{/* Names of the roles and groups of workers that are there, as YAML. */}}
{{- define "kube-airflow.instances" -}}
{{- $top := . }}{{ $names := list -}}
{{- range $role := keys .Values.roles | sortAlpha }}
{{- if (include "kube-airflow.row" (list $top $role) | fromYaml).present }}{{ $names = append $names $role }}{{ end }}
{{- end }}
{{- if include "kube-airflow.runs" (list . (list "Celery")) }}
{{- range $group := keys .Values.celery.groups | sortAlpha }}{{ $names = append $names (printf "worker-%s" $group) }}{{ end }}
{{- end }}
{{- toYaml $names }}
{{- end }}

{{/* (list top name) */}}
{{- define "kube-airflow.row" -}}
{{- $top := index . 0 }}{{ $name := index . 1 }}{{ $values := $top.Values }}{{ $group := trimPrefix "worker-" $name -}}
{{- $role := $name }}{{ $said := index $values.roles $name }}{{ $where := printf "roles.%s" $name -}}
{{- if kindIs "invalid" $said }}
{{- $role = "worker" }}{{ $where = printf "celery.groups.%s" $group -}}
{{- $said = include "kube-airflow.over" (list $values.roles.worker (index $values.celery.groups $group)) | fromYaml }}
{{- end }}
{{- $row := include "kube-airflow.over" (list $said (index ($top.Files.Get "tables/roles.yaml" | fromYaml) $role)) | fromYaml -}}
{{- $_ := set $row "name" $name }}{{ $_ := set $row "role" $role }}{{ $_ := set $row "where" $where -}}
{{- if not (hasKey $row "disk") }}{{ $_ := set $row "disk" dict }}{{ end -}}
{{- $version := $values.airflow.version }}{{ $line := include "kube-airflow.line" $top -}}
{{- $known := semverCompare (printf ">=%s-0" ($row.possible | default $row.since)) $version -}}
{{- $usual := semverCompare (printf ">=%s-0" $row.since) $version -}}
{{- $wanted := ternary $row.enabled $usual (kindIs "bool" $row.enabled) -}}
{{- if and $wanted (not $known) }}{{ fail (printf "%s.enabled: Airflow %s has no %s; leave it null" $where $version $role) }}{{ end -}}
{{- $_ := set $row "present" (not (empty (and $wanted (include "kube-airflow.runs" (list $top $row.executors))))) -}}
{{- $_ := set $row "stateful" (not (empty (include "kube-airflow.runs" (list $top $row.stateful)))) -}}
{{- $_ := set $row "tasks" (not (empty (include "kube-airflow.runs" (list $top $row.tasks)))) -}}
{{- if and (hasKey $row.port "logs") (not $row.stateful) }}{{ $_ := set $row "port" dict }}{{ end -}}
{{- if and (eq $role "webserver") (eq $line "3") (include "kube-airflow.proxied" $top) }}{{ $_ := set $row "args" (prepend $row.args "--proxy-headers") }}{{ end -}}
{{- if and (eq $role "scheduler") (eq $line "1") $values.dags.pickle_dag }}{{ $_ := set $row "args" (prepend $row.args "--do_pickle") }}{{ end -}}
{{- if eq $name "worker" }}{{ $_ := set $row "replicas" $values.celery.num_workers }}{{ end -}}
{{- if ne $name $role }}{{ $_ := set $row "args" (concat (list "--queues" (join "," $row.queues)) $row.args) }}{{ end -}}
{{- if kindIs "invalid" $row.worker_concurrency }}{{ $_ := set $row "worker_concurrency" $values.celery.worker_concurrency }}{{ end -}}
{{- if kindIs "invalid" $row.grace }}{{ $_ := set $row "grace" (ternary 600 60 $row.tasks) }}{{ end -}}
{{- $_ := set $row "scaled" (or (kindIs "invalid" $row.replicas) (not (empty $row.autoscaling)) (dig "keda" "enabled" false $row)) -}}
{{ toYaml $row }}
{{- end }}

{{/* Whether schedulers of Airflow 1.10 take turns: they do, unless the lease is switched off. (list top row) */}}
{{- define "kube-airflow.leased" -}}
{{- $said := "on" -}}
{{- range concat ((index . 0).Values.airflow.env | default list) ((index . 1).env | default list) }}{{ if eq .name "KUBE_AIRFLOW_LEASE" }}{{ $said = .value | default "on" }}{{ end }}{{ end -}}
{{- if not (has (toString $said | lower) (list "off" "false" "no" "0")) }}true{{ end }}
{{- end }}

{{/* Every object of a role. (list top name) */}}
{{- define "kube-airflow.role" -}}
{{- $top := index . 0 }}{{ $row := include "kube-airflow.row" . | fromYaml -}}
{{- if $row.present -}}
{{- if not $row.service_account.name -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "kube-airflow.metadata" (append . $row.service_account.annotations) | nindent 2 }}
automountServiceAccountToken: false
---
{{ end -}}
apiVersion: apps/v1
kind: {{ ternary "StatefulSet" "Deployment" $row.stateful }}
metadata:
  {{- include "kube-airflow.metadata" . | nindent 2 }}
spec:
  {{- if not $row.scaled }}
  replicas: {{ $row.replicas }}
  {{- end }}
  {{- if $row.stateful }}
  serviceName: {{ include "kube-airflow.name" . }}
  podManagementPolicy: Parallel
  {{- with $row.updateStrategy }}
  updateStrategy:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- else if and (eq $row.name "scheduler") (eq (include "kube-airflow.line" $top) "1") (not (include "kube-airflow.leased" (list $top $row))) }}
  strategy:
    type: Recreate
  {{- else }}
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: {{ $top.Values.rollout.surge }}, maxUnavailable: {{ ternary 0 1 (gt (int $top.Values.rollout.surge) 0) }}}
  {{- end }}
  {{- if not $row.stateful }}
  # As long as the startup probe, and Kubernetes' own 10 minutes to find a node and to pull the image.
  progressDeadlineSeconds: {{ with $top.Values.wait }}{{ add .services .migration .start 600 }}{{ end }}
  {{- end }}
  revisionHistoryLimit: 3
  selector:
    matchLabels:
      {{- include "kube-airflow.selector" . | nindent 6 }}
  template:
    {{- include "kube-airflow.airflow_pod" (dict "top" $top "row" $row "args" (prepend $row.args $row.role)) | nindent 4 }}
  {{- if include "kube-airflow.keeps_logs" (list $top $row) }}
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain, whenScaled: {{ $top.Values.logs.persistence.when_scaled }}}
  volumeClaimTemplates:
    {{- include "kube-airflow.claim_template" (list "logs" (dict "storageClass" $top.Values.logs.persistence.storageClass "size" (include "kube-airflow.log_size" (list $top $row)))) | nindent 4 }}
  {{- end }}
{{- if $row.port }}
---
{{ include "kube-airflow.service" (list $top $row) }}
{{- end }}
{{- if $row.autoscaling }}
---
{{ include "kube-airflow.autoscaler" (list $top $row) }}
{{- end }}
{{- if dig "keda" "enabled" false $row }}
---
{{ include "kube-airflow.keda" (list $top $row) }}
{{- end }}
{{- if or (and (kindIs "invalid" $row.replicas) (not $row.autoscaling)) (gt (int (dig "autoscaling" "min" ($row.replicas | default 0) $row)) 1) (and (dig "keda" "enabled" false $row) (gt (int (dig "keda" "max" 0 $row)) 1)) }}
---
{{ include "kube-airflow.budget" . }}
{{- end }}
{{- end }}
{{- end }}

{{/* (list top component) */}}
{{- define "kube-airflow.budget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "kube-airflow.metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  # Pods are not ready while a service is away, and must not keep a node from being drained then.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "kube-airflow.selector" . | nindent 6 }}
{{- end }}

{{/* The Service of a role: of its pages, or headless for its pods' names. (list top row) */}}
{{- define "kube-airflow.service" -}}
{{- $top := index . 0 }}{{ $row := index . 1 }}{{ $component := list $top $row.name -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "kube-airflow.metadata" (append $component (dig "service" "annotations" dict $row)) | nindent 2 }}
spec:
  {{- if $row.stateful }}
  clusterIP: None
  # The logs of a worker that drains are read, too.
  publishNotReadyAddresses: true
  {{- else }}
  type: {{ $row.service.type }}
  {{- with $row.service.loadBalancerSourceRanges }}
  loadBalancerSourceRanges:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  selector:
    {{- include "kube-airflow.selector" $component | nindent 4 }}
  ports:
    {{- range $name, $number := $row.port }}
    - name: {{ $name }}
      port: {{ $number }}
      targetPort: {{ $name }}
      {{- with dig "service" "node_port" nil $row }}
      nodePort: {{ . }}
      {{- end }}
    {{- end }}
{{- end }}

{{/* (list top row) */}}
{{- define "kube-airflow.autoscaler" -}}
{{- $top := index . 0 }}{{ $row := index . 1 }}{{ $component := list $top $row.name -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "kube-airflow.metadata" $component | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: {{ ternary "StatefulSet" "Deployment" $row.stateful }}
    name: {{ include "kube-airflow.name" $component }}
  minReplicas: {{ $row.autoscaling.min }}
  maxReplicas: {{ $row.autoscaling.max }}
  metrics:
    {{- range $resource := list "cpu" "memory" }}
    {{- with index $row.autoscaling $resource }}
    - type: Resource
      resource:
        name: {{ $resource }}
        target:
          type: Utilization
          averageUtilization: {{ . }}
    {{- end }}
    {{- end }}
    {{- with $row.autoscaling.metrics }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  behavior:
    scaleDown:
      stabilizationWindowSeconds: 300
      policies:
        # One pod in the time that it may take to end its tasks.
        - {type: Pods, value: 1, periodSeconds: {{ min 1800 (max 60 $row.grace) }}}
{{- end }}

{{/* As many workers as the tasks in their queues need. (list top row) */}}
{{- define "kube-airflow.keda" -}}
{{- $top := index . 0 }}{{ $row := index . 1 }}{{ $component := list $top $row.name -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  {{- include "kube-airflow.metadata" $component | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: StatefulSet
    name: {{ include "kube-airflow.name" $component }}
  minReplicaCount: {{ $row.keda.min }}
  maxReplicaCount: {{ $row.keda.max }}
  pollingInterval: 10
  cooldownPeriod: 300
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleDown:
          stabilizationWindowSeconds: 300
          policies:
            - {type: Pods, value: 1, periodSeconds: {{ min 1800 (max 60 $row.grace) }}}
  triggers:
    {{- include (printf "kube-airflow.keda_%s" (ternary "database" (include "kube-airflow.broker" $top) (eq $row.keda.by "database"))) . | nindent 4 }}
{{- end }}

{{/* Tasks that wait or run, by the metadata database. (list top row) */}}
{{- define "kube-airflow.keda_database" -}}
{{- $top := index . 0 }}{{ $row := index . 1 }}{{ $postgres := $top.Values.postgres }}{{ $queues := list -}}
{{- range $row.queues | default (list "default") }}{{ $queues = append $queues (printf "'%s'" (replace "'" "''" .)) }}{{ end -}}
- type: postgresql
  metadata:
    host: {{ $postgres.host | default (printf "%s.%s" (include "kube-airflow.name" (list $top "postgres")) $top.Release.Namespace) | quote }}
    port: {{ $postgres.port | quote }}
    userName: {{ $postgres.user | quote }}
    dbName: {{ $postgres.database | quote }}
    sslmode: {{ $postgres.tls.mode | default (ternary "prefer" "disable" (ne $postgres.host "")) | quote }}
    passwordFromEnv: POSTGRES_PASSWORD
    query: >-
      SELECT ceil(count(*)::decimal / {{ $row.worker_concurrency }}) FROM task_instance
      WHERE state IN ('queued', 'running') AND queue IN ({{ join ", " $queues }})
    targetQueryValue: "1"
{{- end }}

{{/* Tasks that wait in RabbitMQ: the deepest queue decides. KEDA puts user and password into the address itself. (list top row) */}}
{{- define "kube-airflow.keda_rabbitmq" -}}
{{- $top := index . 0 }}{{ $row := index . 1 }}{{ $rabbitmq := $top.Values.rabbitmq -}}
{{- $host := $rabbitmq.host | default (printf "%s.%s" (include "kube-airflow.name" (list $top "rabbitmq")) $top.Release.Namespace) }}
{{- $tls := or $rabbitmq.tls.enabled (ne $rabbitmq.tls.ca_secret "") }}
{{- range $row.queues | default (list "default") }}
- type: rabbitmq
  metadata:
    protocol: amqp
    host: {{ printf "%s://%s:%s" (ternary "amqps" "amqp" $tls) $host (include "kube-airflow.broker_port" $top) | quote }}
    vhostName: {{ $rabbitmq.vhost | quote }}
    usernameFromEnv: KUBE_AIRFLOW_RABBITMQ_USER
    passwordFromEnv: RABBITMQ_PASSWORD
    queueName: {{ . | quote }}
    mode: QueueLength
    value: {{ $row.worker_concurrency | quote }}
{{- end }}
{{- end }}

{{/* Tasks that wait in Redis: the longest list decides. (list top row) */}}
{{- define "kube-airflow.keda_redis" -}}
{{- $top := index . 0 }}{{ $row := index . 1 }}{{ $redis := $top.Values.redis -}}
{{- $host := $redis.host | default (printf "%s.%s" (include "kube-airflow.name" (list $top "redis")) $top.Release.Namespace) }}
{{- range $row.queues | default (list "default") }}
- type: redis
  metadata:
    address: {{ printf "%s:%d" $host (int $redis.port) | quote }}
    {{- if $redis.user }}
    usernameFromEnv: KUBE_AIRFLOW_REDIS_USER
    {{- end }}
    {{- if $redis.auth }}
    passwordFromEnv: REDIS_PASSWORD
    {{- end }}
    databaseIndex: {{ int $redis.database | quote }}
    enableTLS: {{ or $redis.tls.enabled (ne $redis.tls.ca_secret "") | quote }}
    listName: {{ . | quote }}
    listLength: {{ $row.worker_concurrency | quote }}
{{- end }}
{{- end }}

{{/* As the API server keeps it, or applying the same manifest again would seem to change it. (list name claim) */}}
{{- define "kube-airflow.claim_template" -}}
- apiVersion: v1
  kind: PersistentVolumeClaim
  metadata:
    name: {{ index . 0 }}
  spec:
    {{- include "kube-airflow.claim" (index . 1) | nindent 4 }}
    volumeMode: Filesystem
  status:
    phase: Pending
{{- end }}

{{/* A claim. (dict storageClass size [mode]) */}}
{{- define "kube-airflow.claim" -}}
accessModes: [{{ .mode | default "ReadWriteOnce" }}]
{{- with .storageClass }}
storageClassName: {{ . | quote }}
{{- end }}
resources:
  requests:
    storage: {{ include "kube-airflow.text" .size | quote }}
{{- end }}
