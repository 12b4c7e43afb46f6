{{/* The pod of a role or a Job. (dict top row args probes) */}}

{{- define "airflow.pod" -}}
{{- $top := .top }}{{ $row := .row }}{{ $values := .top.Values }}{{ $component := list .top .row.name -}}
metadata:
  labels:
    {{- include "airflow.labels" $component | nindent 4 }}
  annotations:
    # What the pod reads when it starts: another content, other pods.
    kube-airflow/configuration: {{ cat (include "airflow.settings" $top) (include "airflow.cfg" $top) | sha256sum | trunc 16 }}
    {{- with $values.secrets.revision }}
    kube-airflow/secrets: {{ include "airflow.text" . | quote }}
    {{- end }}
    {{- with get $row "annotations" }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "airflow.name" $component }}
  automountServiceAccountToken: {{ and $row.tasks $values.delegation.enabled }}
  enableServiceLinks: false
  {{- if .probes }}
  # The init gets `grace` seconds; the kubelet kills only after that.
  terminationGracePeriodSeconds: {{ add $row.grace 10 }}
  {{- else }}
  restartPolicy: OnFailure
  {{- end }}
  {{- with include "airflow.scheduling" (list $top $row) | trim }}
  {{- nindent 2 . }}
  {{- end }}
  securityContext:
    {{- include "airflow.pod_security" (dict "uid" $values.security.uid "gid" $values.security.gid) | nindent 4 }}
  {{- with $values.airflow.image.pull_secrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . | quote }}
    {{- end }}
  {{- end }}
  {{- if and .probes $row.grooms $values.logs.groomer.enabled }}
  initContainers:
    {{- include "airflow.groomer" $top | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ $row.name }}
      image: {{ include "airflow.image" $top }}
      imagePullPolicy: {{ $values.airflow.image.pull_policy }}
      command: [kube-airflow-init]
      args: {{ toJson .args }}
      env:
        {{- include "airflow.variables" (list $top $row) | nindent 8 }}
        {{- if .probes }}
        - {name: KUBE_AIRFLOW_GRACE, value: {{ $row.grace | quote }}}
        {{- if $values.metrics.enabled }}
        - {name: KUBE_AIRFLOW_HTTP, value: ":9794"}
        {{- end }}
        {{- end }}
        {{- with concat $values.airflow.env $row.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      envFrom:
        - configMapRef:
            name: {{ include "airflow.name" (list $top "airflow-settings") }}
      {{- with merge (ternary (dict "metrics" 9794) dict (and .probes $values.metrics.enabled)) $row.port }}
      ports:
        {{- range $name, $number := . }}
        - {name: {{ $name }}, containerPort: {{ $number }}}
        {{- end }}
      {{- end }}
      {{- if .probes }}
      {{- include "airflow.probes" (list $values.wait (hasKey $row.port "http")) | trim | nindent 6 }}
      {{- end }}
      resources:
        {{- toYaml $row.resources | nindent 8 }}
      terminationMessagePolicy: FallbackToLogsOnError
      {{- include "airflow.container_security" . | nindent 6 }}
      volumeMounts:
        {{- include "airflow.mounts" (list $top $row) | nindent 8 }}
  volumes:
    {{- include "airflow.volumes" (list $top $row) | nindent 4 }}
{{- end }}

{{/* The numbers are those of docs/probes.md; a probe of ours answers after 8 s at the latest. (list wait traffic) */}}
{{- define "airflow.probes" -}}
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
{{- define "airflow.pod_security" -}}
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

{{- define "airflow.container_security" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* (list top row) */}}
{{- define "airflow.scheduling" -}}
{{- $scheduling := (index . 1).scheduling }}{{ $component := list (index . 0) (index . 1).name -}}
{{- $spread := list }}
{{- range get $scheduling "spread" | default list }}
{{- $spread = append $spread (dict "topologyKey" . "maxSkew" 1 "whenUnsatisfiable" "ScheduleAnyway" "labelSelector" (dict "matchLabels" (include "airflow.selector" $component | fromYaml))) }}
{{- end }}
{{- with concat $spread (get $scheduling "topologySpreadConstraints" | default list) }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with omit $scheduling "spread" "topologySpreadConstraints" }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "airflow.groomer" -}}
- name: groomer
  image: {{ include "airflow.image" . }}
  imagePullPolicy: {{ .Values.airflow.image.pull_policy }}
  # A sidecar: it ends after the role.
  restartPolicy: Always
  command: [kube-airflow-init, exec, --bare, --, sh, /etc/kube-airflow/groomer/groom.sh, /run/airflow/logs]
  args: [{{ .Values.logs.groomer.days | quote }}, {{ .Values.logs.groomer.megabytes | quote }}]
  resources:
    {{- toYaml .Values.logs.groomer.resources | nindent 4 }}
  {{- include "airflow.container_security" . | nindent 2 }}
  volumeMounts:
    - {name: logs, mountPath: /run/airflow/logs}
    - {name: tmp, mountPath: /tmp}
    - {name: groomer, mountPath: /etc/kube-airflow/groomer, readOnly: true}
{{- end }}

{{/* (list top row) */}}
{{- define "airflow.mounts" -}}
{{- $row := index . 1 }}{{ $values := (index . 0).Values -}}
# Airflow's home is in memory: what the init renders holds passwords.
- {name: home, mountPath: /run/airflow}
- {name: logs, mountPath: /run/airflow/logs}
- {name: tmp, mountPath: /tmp}
- {name: airflow-cfg, mountPath: /etc/kube-airflow/template, readOnly: true}
{{- if $values.persistence.enabled }}
- {name: dags, mountPath: {{ $values.airflow.dag_path }}, readOnly: true}
{{- end }}
{{- if $values.postgres.tls.ca_secret }}
- {name: postgres-ca, mountPath: /etc/kube-airflow/postgres, readOnly: true}
{{- end }}
{{- if $values.rabbitmq.tls.ca_secret }}
- {name: rabbitmq-ca, mountPath: /etc/kube-airflow/rabbitmq, readOnly: true}
{{- end }}
{{- with concat $values.airflow.volumeMounts (get $row "volumeMounts" | default list) }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* (list top row) */}}
{{- define "airflow.volumes" -}}
{{- $top := index . 0 }}{{ $row := index . 1 }}{{ $values := $top.Values -}}
- name: home
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
- name: tmp
  emptyDir: {sizeLimit: 1Gi}
{{- if not (and (eq $row.name "worker") $values.logs.persistence.enabled) }}
- name: logs
  emptyDir: {sizeLimit: {{ $values.logs.size }}}
{{- end }}
{{- if and $row.grooms $values.logs.groomer.enabled }}
- name: groomer
  configMap:
    name: {{ include "airflow.name" (list $top "airflow-groomer") }}
{{- end }}
- name: airflow-cfg
  configMap:
    name: {{ include "airflow.name" (list $top "airflow-cfg") }}
{{- if $values.persistence.enabled }}
- name: dags
  persistentVolumeClaim:
    claimName: {{ $values.persistence.existingClaim | default (include "airflow.name" (list $top "airflow-dags")) | quote }}
{{- end }}
{{- with $values.postgres.tls.ca_secret }}
- name: postgres-ca
  secret: {secretName: {{ . | quote }}, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}
{{- with $values.rabbitmq.tls.ca_secret }}
- name: rabbitmq-ca
  secret: {secretName: {{ . | quote }}, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}
{{- with concat $values.airflow.volumes (get $row "volumes" | default list) }}
{{ toYaml . }}
{{- end }}
{{- end }}
