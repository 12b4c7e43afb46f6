{{/* Ingress and egress rules by component, from tables/connections.yaml. */}}

{{/* (top) as YAML: component: {ingress: [...], egress: [...]} */}}
{{- define "kube-airflow.policies" -}}
{{- $top := . }}{{ $values := .Values }}{{ $who := include "kube-airflow.endpoints" . | fromYaml }}{{ $policies := dict -}}
{{- range $name, $end := $who }}
{{- if $end.pods }}{{ $_ := set $policies $name (dict "ingress" ($end.ingress | default list) "egress" ($end.egress | default list)) }}{{ end }}
{{- end }}
{{- range $edge := include "kube-airflow.edges" . | fromYamlArray }}
{{- range $to, $target := $who }}
{{- range $from, $source := $who }}
{{- if and (eq $target.role $edge.to) (has $source.role $edge.from) $source.pods }}
{{- $rule := dict "ports" (include "kube-airflow.tcp" $target.ports | fromYamlArray) }}
{{- $out := deepCopy $rule }}
{{- if $target.pods }}
{{- $out = merge (dict "to" (list (include "kube-airflow.peer" (list $top $to) | fromYaml))) $out }}
{{- $_ := set (index $policies $to) "ingress" (append (index $policies $to).ingress (merge (dict "from" (list (include "kube-airflow.peer" (list $top $from) | fromYaml))) (deepCopy $rule))) }}
{{- end }}
{{- $_ := set (index $policies $from) "egress" (append (index $policies $from).egress $out) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- $dns := dict "ports" (include "kube-airflow.dns" . | fromYamlArray) }}
{{- with $values.network_policy.dns_peers }}{{ $_ := set $dns "to" . }}{{ end }}
{{- range $name, $policy := $policies }}
{{- if not (has $name (list "postgres" "rabbitmq" "redis" "keys")) }}{{ $_ := set $policy "egress" (append $policy.egress $dns) }}{{ end }}
{{- end }}
{{- toYaml $policies }}
{{- end }}

{{/* The connections; with a pooler of ours, whoever connects to the database connects to that as well. Locks are taken on the server itself. */}}
{{- define "kube-airflow.edges" -}}
{{- $edges := include "kube-airflow.active" (list . "tables/connections.yaml") | fromYamlArray -}}
{{- if .Values.pgbouncer.enabled }}
{{- range $edge := $edges }}
{{- $pooled := without $edge.from "migrate" "cleanup" }}
{{- if and (eq $edge.to "postgres") $pooled }}{{ $edges = append $edges (dict "from" $pooled "to" "pgbouncer") }}{{ end }}
{{- end }}
{{- $edges = append $edges (dict "from" (list "pgbouncer") "to" "postgres") }}
{{- end }}
{{- toYaml $edges }}
{{- end }}

{{/* Everybody who connects or is connected to: `pods`, if they are ours; `role`; `ports`; and the rules that no edge makes. */}}
{{- define "kube-airflow.endpoints" -}}
{{- $top := . }}{{ $values := .Values }}{{ $line := include "kube-airflow.line" . }}{{ $who := dict -}}
{{- $api := dict "ports" (include "kube-airflow.tcp_api" . | fromYamlArray) }}
{{- with $values.network_policy.api_peers }}{{ $_ := set $api "to" . }}{{ end }}
{{- $rows := dict }}
{{- range $name := include "kube-airflow.instances" . | fromYamlArray }}{{ $_ := set $rows $name (include "kube-airflow.row" (list $top $name) | fromYaml) }}{{ end }}
{{- if include "kube-airflow.runs" (list . (list "Kubernetes")) }}{{ $_ := set $rows "task" (include "kube-airflow.task_row" . | fromYaml) }}{{ end }}
{{- range $name, $row := $rows }}
{{- $ingress := list }}{{ $egress := $row.egress | default list }}
{{- with $row.port.http }}{{ $ingress = append $ingress (include "kube-airflow.entry" (list . $values.network_policy.clients) | fromYaml) }}{{ end }}
{{- if and $values.metrics.enabled (ne $name "task") }}{{ $ingress = append $ingress (include "kube-airflow.entry" (list 9794 $values.metrics.clients) | fromYaml) }}{{ end }}
{{- if include "kube-airflow.hears_hooks" (list $top $row) }}
{{- $hook := include "kube-airflow.entry" (list 9794 $values.dags.git.webhook.clients) | fromYaml }}
{{- if not (has $hook $ingress) }}{{ $ingress = append $ingress $hook }}{{ end }}
{{- end }}
{{- /* The webserver reads logs from where they are kept. */}}
{{- if or $row.tasks (has $line ($row.parses | default list)) (and (eq $name "webserver") $values.logs.remote.folder) }}
{{- $egress = concat $egress (ternary (list dict) $values.network_policy.task_egress $values.network_policy.tasks_reach_anything) }}
{{- end }}
{{- if and (include "kube-airflow.reads_git" (list $top $row)) (not (has dict $egress)) }}
{{- $git := dict "ports" (include "kube-airflow.tcp" (list (include "kube-airflow.git_port" $top)) | fromYamlArray) }}
{{- with $values.dags.git.peers }}{{ $_ := set $git "to" . }}{{ end }}
{{- $egress = append $egress $git }}
{{- end }}
{{- /* Who may reach anything reaches the API server, too. */}}
{{- $watches := and (ne $name "task") (include "kube-airflow.watches_pods" (list $top $row.role)) }}
{{- if and (or $watches (and $row.tasks $values.delegation.enabled)) (not (has dict $egress)) }}{{ $egress = append $egress $api }}{{ end }}
{{- with $values.metrics.statsd.host }}{{ $egress = append $egress (dict "ports" (list (dict "port" (int $values.metrics.statsd.port) "protocol" "UDP"))) }}{{ end }}
{{- with $values.metrics.otel.host }}{{ $egress = append $egress (dict "ports" (include "kube-airflow.tcp" (list $values.metrics.otel.port) | fromYamlArray)) }}{{ end }}
{{- $_ := set $who $name (dict "role" $row.role "pods" true "ports" (values $row.port) "ingress" $ingress "egress" $egress) }}
{{- end }}
{{- $_ := set $who "migrate" (dict "role" "migrate" "pods" true) }}
{{- if $values.cleanup.enabled }}{{ $_ := set $who "cleanup" (dict "role" "cleanup" "pods" true) }}{{ end }}
{{- if $values.secrets.create }}{{ $_ := set $who "keys" (dict "role" "keys" "pods" true "egress" (list $api)) }}{{ end }}
{{- /* Servers of your own have a port and no pods. Behind a pooler, the server itself is asked as well. */}}
{{- $ports := list $values.postgres.port }}
{{- with $values.postgres.direct }}{{ $ports = append $ports (splitList ":" . | last) }}{{ end }}
{{- $_ := set $who "postgres" (include "kube-airflow.endpoint" (list "postgres" $values.postgres $ports) | fromYaml) }}
{{- if $values.pgbouncer.enabled }}{{ $_ := set $who "pgbouncer" (include "kube-airflow.endpoint" (list "pgbouncer" $values.pgbouncer (list 6432)) | fromYaml) }}{{ end }}
{{- with include "kube-airflow.broker" . }}
{{- $section := index $values . | default (dict "host" .) }}
{{- $_ := set $who . (include "kube-airflow.endpoint" (list "broker" $section (include "kube-airflow.broker_ports" $top | fromYamlArray)) | fromYaml) }}
{{- end }}
{{- toYaml $who }}
{{- end }}

{{/* A server. (list role values ports) */}}
{{- define "kube-airflow.endpoint" -}}
{{- $values := index . 1 -}}
role: {{ index . 0 }}
pods: {{ not $values.host }}
ports: {{ index . 2 | toJson }}
{{- with $values.clients }}
ingress:
  - {{ include "kube-airflow.entry" (list (index $ 2 | first) .) | nindent 4 | trim }}
{{- end }}
{{- end }}

{{/* A way in for clients; without any named, for everybody. (list port clients) */}}
{{- define "kube-airflow.entry" -}}
ports:
  {{- include "kube-airflow.tcp" (list (index . 0)) | nindent 2 }}
{{- with index . 1 }}
from:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A list of ports. */}}
{{- define "kube-airflow.tcp" -}}
{{- range . }}
- {port: {{ int . }}, protocol: TCP}
{{- end }}
{{- end }}

{{/* 5353: the pods behind OpenShift's DNS. */}}
{{- define "kube-airflow.dns" -}}
{{- range $port := list 53 5353 }}
- {port: {{ $port }}, protocol: UDP}
- {port: {{ $port }}, protocol: TCP}
{{- end }}
{{- end }}

{{/* The API server: as the Service `kubernetes`, and as clusters have it behind that. */}}
{{- define "kube-airflow.tcp_api" -}}
{{ include "kube-airflow.tcp" (list 443 6443 8443 16443) }}
{{- end }}

{{- define "kube-airflow.peer" -}}
podSelector:
  matchLabels:
    {{- include "kube-airflow.selector" . | nindent 4 }}
{{- end }}
