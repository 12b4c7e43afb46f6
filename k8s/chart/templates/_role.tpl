{{/* A role: its row in tables/roles.yaml and its values, as one map, with what follows from version and executor. (list top role) */}}

{{- define "airflow.row" -}}
{{- $top := index . 0 }}{{ $role := index . 1 -}}
{{- $row := merge (dict "name" $role) (index ($top.Files.Get "tables/roles.yaml" | fromYaml) $role) (index $top.Values.roles $role) -}}
{{- $version := $top.Values.airflow.version }}{{ $executor := $top.Values.airflow.executor -}}
{{- $known := semverCompare (printf ">=%s-0" (get $row "possible" | default $row.since)) $version -}}
{{- $usual := semverCompare (printf ">=%s-0" $row.since) $version -}}
{{- $wanted := ternary (get $row "enabled") $usual (kindIs "bool" (get $row "enabled")) -}}
{{- if and $wanted (not $known) }}{{ fail (printf "roles.%s.enabled: Airflow %s has no %s" $role $version $role) }}{{ end -}}
{{- $stateful := has $executor $row.stateful -}}
{{- $_ := set $row "present" (and $wanted (has $executor $row.executors)) -}}
{{- $_ := set $row "stateful" $stateful -}}
{{- $_ := set $row "tasks" (has $executor $row.tasks) -}}
{{- if and (hasKey $row.port "logs") (not $stateful) }}{{ $_ := set $row "port" dict }}{{ end -}}
{{- $line := include "airflow.line" $top }}{{ $proxied := or $top.Values.ingress.enabled $top.Values.gateway.enabled -}}
{{- if and (eq $role "webserver") (eq $line "3") $proxied }}{{ $_ := set $row "args" (prepend $row.args "--proxy-headers") }}{{ end -}}
{{- if and (eq $role "scheduler") (eq $line "1") $top.Values.dags.pickle_dag }}{{ $_ := set $row "args" (prepend $row.args "--do_pickle") }}{{ end -}}
{{- if eq $role "worker" }}{{ $_ := set $row "replicas" $top.Values.celery.num_workers }}{{ end -}}
{{- if kindIs "invalid" $row.grace }}{{ $_ := set $row "grace" (ternary 600 60 $row.tasks) }}{{ end -}}
{{ toYaml $row }}
{{- end }}

{{/* Every object of a role. (list top role) */}}
{{- define "airflow.role" -}}
{{- $top := index . 0 }}{{ $row := include "airflow.row" . | fromYaml -}}
{{- $autoscaling := get $row "autoscaling" | default dict -}}
{{- if $row.present -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "airflow.metadata" . | nindent 2 }}
  {{- with $row.service_account.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
---
apiVersion: apps/v1
kind: {{ ternary "StatefulSet" "Deployment" $row.stateful }}
metadata:
  {{- include "airflow.metadata" . | nindent 2 }}
spec:
  {{- if not (or $autoscaling (kindIs "invalid" $row.replicas)) }}
  replicas: {{ $row.replicas }}
  {{- end }}
  {{- if $row.stateful }}
  serviceName: {{ include "airflow.name" . }}
  podManagementPolicy: Parallel
  {{- else if and (eq $row.name "scheduler") (eq (include "airflow.line" $top) "1") }}
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
      {{- include "airflow.selector" . | nindent 6 }}
  template:
    {{- include "airflow.pod" (dict "top" $top "row" $row "args" (prepend $row.args $row.name) "probes" true) | nindent 4 }}
  {{- if and (eq $row.name "worker") $top.Values.logs.persistence.enabled }}
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain, whenScaled: {{ $top.Values.logs.persistence.when_scaled }}}
  volumeClaimTemplates:
    {{- include "airflow.claim_template" (list "logs" (dict "storageClass" $top.Values.logs.persistence.storageClass "size" $top.Values.logs.size)) | nindent 4 }}
  {{- end }}
{{- if $row.port }}
---
{{ include "airflow.service" (list $top $row) }}
{{- end }}
{{- if $autoscaling }}
---
{{ include "airflow.autoscaler" (list $top $row) }}
{{- end }}
{{- if gt (int (get $autoscaling "min" | default $row.replicas)) 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "airflow.metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "airflow.selector" . | nindent 6 }}
{{- end }}
{{- end }}
{{- end }}

{{/* The Service of a role: of its pages, or headless for its pods' names. (list top row) */}}
{{- define "airflow.service" -}}
{{- $top := index . 0 }}{{ $row := index . 1 }}{{ $component := list $top $row.name -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "airflow.metadata" $component | nindent 2 }}
  {{- with dig "service" "annotations" dict $row }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- if $row.stateful }}
  clusterIP: None
  # The logs of a worker that drains are read, too.
  publishNotReadyAddresses: true
  {{- else }}
  type: {{ $row.service.type }}
  {{- end }}
  selector:
    {{- include "airflow.selector" $component | nindent 4 }}
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

{{- define "airflow.autoscaler" -}}
{{- $top := index . 0 }}{{ $row := index . 1 }}{{ $component := list $top $row.name -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "airflow.metadata" $component | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: {{ ternary "StatefulSet" "Deployment" $row.stateful }}
    name: {{ include "airflow.name" $component }}
  minReplicas: {{ $row.autoscaling.min }}
  maxReplicas: {{ $row.autoscaling.max }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ $row.autoscaling.cpu }}
  behavior:
    scaleDown:
      stabilizationWindowSeconds: 300
      policies:
        # One pod in the time that it may take to end its tasks.
        - {type: Pods, value: 1, periodSeconds: {{ min 1800 (max 60 $row.grace) }}}
{{- end }}

{{/* As the API server keeps it, or applying the same manifest again would seem to change it. (list name claim) */}}
{{- define "airflow.claim_template" -}}
- apiVersion: v1
  kind: PersistentVolumeClaim
  metadata:
    name: {{ index . 0 }}
  spec:
    {{- include "airflow.claim" (index . 1) | nindent 4 }}
    volumeMode: Filesystem
  status:
    phase: Pending
{{- end }}

{{/* A claim. (dict storageClass size [mode]) */}}
{{- define "airflow.claim" -}}
accessModes: [{{ .mode | default "ReadWriteOnce" }}]
{{- with .storageClass }}
storageClassName: {{ . | quote }}
{{- end }}
resources:
  requests:
    storage: {{ .size }}
{{- end }}
