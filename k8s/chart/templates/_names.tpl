{{/* Names. The release `airflow` has the plain ones, any other stands in front of them: 40 characters of it, or 33 and a hash. */}}

{{- define "airflow.name" -}}
{{- $top := index . 0 }}{{ $part := index . 1 }}{{ $release := $top.Release.Name -}}
{{- if gt (len $release) 40 }}{{ $release = printf "%s-%s" (trunc 33 $release | trimSuffix "-") (sha256sum $release | trunc 6) }}{{ end -}}
{{- if eq $release "airflow" }}{{ $part }}{{ else }}{{ $release }}-{{ $part }}{{ end -}}
{{- end }}

{{/* What a selector may hold: nothing of it ever changes. (list top component) */}}
{{- define "airflow.selector" -}}
app.kubernetes.io/name: airflow
app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of an object and of pods. (list top component) */}}
{{- define "airflow.labels" -}}
{{ include "airflow.selector" . }}
app.kubernetes.io/part-of: airflow
{{- end }}

{{- define "airflow.metadata" -}}
name: {{ include "airflow.name" . }}
labels:
  {{- include "airflow.labels" . | nindent 2 }}
{{- end }}

{{- define "airflow.secret" -}}
{{ .Values.secrets.name | default (include "airflow.name" (list . "airflow-keys")) }}
{{- end }}

{{/* 1, 2 or 3. */}}
{{- define "airflow.line" -}}
{{ (semver .Values.airflow.version).Major }}
{{- end }}

{{- define "airflow.image" -}}
{{ .Values.airflow.image.repository }}:{{ .Values.airflow.image.tag | default .Values.airflow.version }}
{{- end }}
