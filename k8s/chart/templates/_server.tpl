{{/* Postgres and RabbitMQ: a stock image, one pod, its data on a volume. (dict top name values port variables args files probe folder volumes mounts) */}}

{{- define "airflow.server" -}}
{{- $top := .top }}{{ $component := list .top .name }}{{ $values := .values -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "airflow.metadata" $component | nindent 2 }}
automountServiceAccountToken: false
---
apiVersion: v1
kind: Service
metadata:
  {{- include "airflow.metadata" $component | nindent 2 }}
spec:
  clusterIP: None
  # The name stands while the server starts: "connection refused" says more than "no such host".
  publishNotReadyAddresses: true
  selector:
    {{- include "airflow.selector" $component | nindent 4 }}
  ports:
    - {name: {{ .name }}, port: {{ .port }}, targetPort: {{ .name }}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  {{- include "airflow.metadata" $component | nindent 2 }}
spec:
  replicas: 1
  serviceName: {{ include "airflow.name" $component }}
  revisionHistoryLimit: 3
  selector:
    matchLabels:
      {{- include "airflow.selector" $component | nindent 6 }}
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain, whenScaled: Retain}
  template:
    metadata:
      labels:
        {{- include "airflow.labels" $component | nindent 8 }}
      {{- with .configuration }}
      annotations:
        kube-airflow/configuration: {{ sha256sum . | trunc 16 }}
      {{- end }}
    spec:
      serviceAccountName: {{ include "airflow.name" $component }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 60
      {{- with include "airflow.scheduling" (list $top (dict "name" .name "scheduling" $values.scheduling)) | trim }}
      {{- nindent 6 . }}
      {{- end }}
      securityContext:
        {{- include "airflow.pod_security" (dict "uid" $values.uid "gid" $values.uid) | nindent 8 }}
      {{- with $top.Values.airflow.image.pull_secrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . | quote }}
        {{- end }}
      {{- end }}
      containers:
        - name: {{ .name }}
          image: {{ $values.image }}
          {{- with .args }}
          args: {{ toJson . }}
          {{- end }}
          env:
            {{- .variables | nindent 12 }}
          ports:
            - {name: {{ .name }}, containerPort: {{ .port }}}
          {{- .probes | nindent 10 }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          {{- include "airflow.container_security" . | nindent 10 }}
          volumeMounts:
            - {name: data, mountPath: {{ .folder }}}
            - {name: tmp, mountPath: /tmp}
            {{- range $name, $mount := .mounts }}
            - {name: {{ $name }}, mountPath: {{ $mount.path }}}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {sizeLimit: 256Mi}
        {{- range $name, $mount := .mounts }}
        - name: {{ $name }}
          {{- toYaml $mount.volume | nindent 10 }}
        {{- end }}
  volumeClaimTemplates:
    {{- include "airflow.claim_template" (list "data" $values.persistence) | nindent 4 }}
{{- end }}
