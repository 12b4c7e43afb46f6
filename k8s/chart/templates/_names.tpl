{{/* Names and labels. The release `airflow` has the plain names, any other stands in front of them: 40 characters of it, or 33 and a hash. */}}

{{/* (list top part) */}}
{{- define "kube-airflow.name" -}}
{{- $top := index . 0 }}{{ $part := index . 1 }}{{ $release := $top.Values.fullnameOverride | default $top.Release.Name -}}
{{- if gt (len $release) 40 }}{{ $release = printf "%s-%s" (trunc 33 $release | trimSuffix "-") (sha256sum $release | trunc 6) }}{{ end -}}
{{- if eq $release "airflow" }}{{ $part }}{{ else }}{{ $release }}-{{ $part }}{{ end -}}
{{- end }}

{{/* What a selector may hold: nothing of it ever changes. (list top component) */}}
{{- define "kube-airflow.selector" -}}
{{ include "kube-airflow.release" (index . 0) }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* What selects all pods of the release. */}}
{{- define "kube-airflow.release" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default "airflow" | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Labels of objects and pods: yours below ours. (list top component [more]) */}}
{{- define "kube-airflow.labels" -}}
{{- $top := index . 0 }}{{ $more := dict }}{{ if gt (len .) 2 }}{{ $more = index . 2 | default dict }}{{ end -}}
{{- $ours := printf "%s\napp.kubernetes.io/part-of: airflow" (include "kube-airflow.selector" (list $top (index . 1))) | fromYaml -}}
{{ include "kube-airflow.over" (list (include "kube-airflow.over" (list $top.Values.labels $more) | fromYaml) $ours) }}
{{- end }}

{{/* Name, labels and annotations of an object. What changes with a version of the chart is on no pod, or each version would replace all of
     them. (list top component [annotations [labels]]) */}}
{{- define "kube-airflow.metadata" -}}
{{- $top := index . 0 }}{{ $annotations := dict }}{{ $labels := dict -}}
{{- if gt (len .) 2 }}{{ $annotations = index . 2 | default dict }}{{ end -}}
{{- if gt (len .) 3 }}{{ $labels = index . 3 | default dict }}{{ end -}}
name: {{ include "kube-airflow.name" . }}
labels:
  {{- include "kube-airflow.labels" (list $top (index . 1) $labels) | nindent 2 }}
  app.kubernetes.io/managed-by: {{ $top.Release.Service | quote }}
  helm.sh/chart: {{ printf "%s-%s" $top.Chart.Name $top.Chart.Version | replace "+" "_" | trunc 63 | quote }}
{{- with include "kube-airflow.over" (list $top.Values.annotations $annotations) | fromYaml }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "kube-airflow.secret" -}}
{{ .Values.secrets.name | default (include "kube-airflow.name" (list . "airflow-keys")) }}
{{- end }}

{{/* 1, 2 or 3. */}}
{{- define "kube-airflow.line" -}}
{{ (semver .Values.airflow.version).Major }}
{{- end }}

{{/* The image of all Airflow pods, or, with a tag or digest of its own, of a role. A tag has no `+`. (list top [image]) */}}
{{- define "kube-airflow.image" -}}
{{- $image := (index . 0).Values.airflow.image }}{{ if gt (len .) 1 }}{{ $image = include "kube-airflow.over" (list $image (index . 1)) | fromYaml }}{{ end -}}
{{- $tag := $image.tag | default ((index . 0).Values.airflow.version | replace "+" "_") -}}
{{ $image.repository }}{{ ternary "" ":" (hasPrefix "@" $tag) }}{{ $tag }}
{{- end }}

{{/* The ServiceAccount of a component: its own, or one that is there already. (list top component account) */}}
{{- define "kube-airflow.account" -}}
{{ (index . 2).name | default (include "kube-airflow.name" .) }}
{{- end }}
