{{/* Postgres, RabbitMQ and Redis: a stock image, one pod, its data on a volume.
     (dict top name values port env folder probes [command args mounts configuration]); `mounts` are volumes by name: `path` and `volume`. */}}

{{- define "kube-airflow.server" -}}
{{- $top := .top }}{{ $component := list .top .name }}{{ $values := .values -}}
{{- $mounts := list (dict "name" "data" "mountPath" .folder) (dict "name" "tmp" "mountPath" "/tmp") }}
{{- $volumes := list (dict "name" "tmp" "emptyDir" (dict "sizeLimit" "256Mi")) }}
{{- range $name, $mount := .mounts }}
{{- $mounts = append $mounts (dict "name" $name "mountPath" $mount.path) }}
{{- $volumes = append $volumes (merge (dict "name" $name) $mount.volume) }}
{{- end }}
{{- $main := merge (dict
    "name" .name
    "image" $values.image
    "env" .env
    "ports" (list (dict "name" .name "containerPort" (int .port)))
    "resources" $values.resources
    "volumeMounts" $mounts) (.probes | fromYaml) }}
{{- if .command }}{{ $_ := set $main "command" .command }}{{ end }}
{{- if .args }}{{ $_ := set $main "args" .args }}{{ end }}
{{- $annotations := dict }}
{{- with .configuration }}{{ $annotations = dict "kube-airflow/configuration" (sha256sum . | trunc 16) }}{{ end -}}
{{- if not $values.service_account.name -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "kube-airflow.metadata" (append $component $values.service_account.annotations) | nindent 2 }}
automountServiceAccountToken: false
---
{{ end -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "kube-airflow.metadata" $component | nindent 2 }}
spec:
  clusterIP: None
  # The name stands while the server starts: "connection refused" says more than "no such host".
  publishNotReadyAddresses: true
  selector:
    {{- include "kube-airflow.selector" $component | nindent 4 }}
  ports:
    - {name: {{ .name }}, port: {{ .port }}, targetPort: {{ .name }}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  {{- include "kube-airflow.metadata" $component | nindent 2 }}
spec:
  replicas: 1
  serviceName: {{ include "kube-airflow.name" $component }}
  revisionHistoryLimit: 3
  selector:
    matchLabels:
      {{- include "kube-airflow.selector" $component | nindent 6 }}
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain, whenScaled: Retain}
  template:
    {{- include "kube-airflow.pod" (dict "top" $top "component" .name "where" .name "claim" "data" "options" $values "main" $main "annotations" $annotations "volumes" $volumes
        "uid" $values.uid "gid" $values.uid "grace" 60) | nindent 4 }}
  volumeClaimTemplates:
    {{- include "kube-airflow.claim_template" (list "data" $values.persistence) | nindent 4 }}
{{- end }}

{{/* Probes that restart nothing that recovers: each asks in its own way. (list startup liveness readiness) */}}
{{- define "kube-airflow.server_probes" -}}
startupProbe:
  {{- index . 0 | toYaml | nindent 2 }}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 300
livenessProbe:
  {{- index . 1 | toYaml | nindent 2 }}
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 6
readinessProbe:
  {{- index . 2 | toYaml | nindent 2 }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end }}
