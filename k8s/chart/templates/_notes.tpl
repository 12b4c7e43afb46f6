{{/* What helm says in the end. */}}
{{- define "kube-airflow.notes" -}}
{{- include "kube-airflow.start" . -}}
Airflow {{ .Values.airflow.version }} with the {{ .Values.airflow.executor }} executor.

{{ $service := .Values.roles.webserver.service }}{{ $prefix := .Values.ingress.path.web | trimSuffix "/" -}}
{{- if include "kube-airflow.proxied" . -}}
The UI:     {{ include "kube-airflow.url" . }}
{{- else if eq $service.type "NodePort" -}}
The UI:     http://NODE:{{ $service.node_port | default "PORT" }}{{ $prefix }}, with the address of any node
{{- if not $service.node_port }}; the port: kubectl -n {{ .Release.Namespace }} get service {{ include "kube-airflow.name" (list . "webserver") }}{{ end }}
{{- else if eq $service.type "LoadBalancer" -}}
The UI:     http://ADDRESS:8080{{ $prefix }}; the address: kubectl -n {{ .Release.Namespace }} get service {{ include "kube-airflow.name" (list . "webserver") }}
{{- else -}}
The UI:     kubectl -n {{ .Release.Namespace }} port-forward service/{{ include "kube-airflow.name" (list . "webserver") }} 8080:8080
            http://localhost:8080{{ $prefix }}
{{- end }}
{{- with .Values.airflow.admin_user }}
Login:      {{ . }}, with the password of
            {{- $from := index $.Values.secrets.from "ADMIN_PASSWORD" | default (dict "name" (include "kube-airflow.secret" $) "key" "ADMIN_PASSWORD") }}
            kubectl -n {{ $.Release.Namespace }} get secret {{ $from.name }} -o go-template={{ printf "'{{index .data %q | base64decode}}'" $from.key }}
{{- end }}
{{- if and (include "kube-airflow.runs" (list . (list "Kubernetes"))) (not .Values.logs.remote.folder) (not .Values.logs.persistence.shared) }}
Logs:       that of a task goes with its pod; logs.remote or logs.persistence.shared keeps it
{{- end }}
State:      kubectl -n {{ .Release.Namespace }} get pods -l app.kubernetes.io/instance={{ .Release.Name }}
{{- end }}
