{{/* Ingress and egress rules by component, from tables/connections.yaml. */}}

{{- define "airflow.policies" -}}
{{- $top := . }}{{ $values := .Values }}{{ $line := include "airflow.line" . }}{{ $executor := $values.airflow.executor -}}
{{- /* Who is there, at which port. Servers of your own have a port and no pods. */ -}}
{{- $ports := dict "migrate" 0 "postgres" $values.postgres.port "rabbitmq" (include "airflow.broker_port" . | int) }}
{{- $policies := dict "migrate" (dict "ingress" list "egress" list) }}
{{- if not $values.postgres.host }}{{ $_ := set $policies "postgres" (dict "ingress" list "egress" list) }}{{ end }}
{{- if and (not $values.rabbitmq.host) (eq $executor "Celery") }}{{ $_ := set $policies "rabbitmq" (dict "ingress" list "egress" list) }}{{ end }}
{{- range $role := keys $values.roles }}
{{- $row := include "airflow.row" (list $top $role) | fromYaml }}
{{- if $row.present }}
{{- $pages := list }}
{{- range $name, $port := $row.port }}
{{- $_ := set $ports $role $port }}
{{- if eq $name "http" }}{{ $pages = append $pages (include "airflow.entry" (list $port $values.network_policy.clients) | fromYaml) }}{{ end }}
{{- end }}
{{- if $values.metrics.enabled }}{{ $pages = append $pages (include "airflow.entry" (list 9794 $values.metrics.clients) | fromYaml) }}{{ end }}
{{- $world := list }}
{{- /* The webserver reads logs from where they are kept. */ -}}
{{- if or $row.tasks (has $line $row.parses) (and (eq $role "webserver") $values.logs.remote.folder) }}{{ $world = ternary (list dict) $values.network_policy.task_egress $values.network_policy.tasks_reach_anything }}{{ end }}
{{- if and $row.tasks $values.delegation.enabled (not $values.network_policy.tasks_reach_anything) }}{{ $world = append $world (dict "ports" (include "airflow.tcp_api" . | fromYamlArray)) }}{{ end }}
{{- $_ := set $policies $role (dict "ingress" $pages "egress" $world) }}
{{- end }}
{{- end }}
{{- range $edge := .Files.Get "tables/connections.yaml" | fromYamlArray }}
{{- if and (has $executor (get $edge "executors" | default (list $executor))) (has $line (get $edge "lines" | default (list $line))) }}
{{- $rule := dict "ports" (include "airflow.tcp" (get $ports $edge.to) | fromYamlArray) }}
{{- /* Behind a pooler, the server itself is asked as well. */ -}}
{{- if and (eq $edge.to "postgres") $values.postgres.direct }}{{ $rule = dict "ports" (concat $rule.ports (include "airflow.tcp" (splitList ":" $values.postgres.direct | last) | fromYamlArray)) }}{{ end }}
{{- $target := get $policies $edge.to }}
{{- range $from := $edge.from }}
{{- with get $policies $from }}
{{- $_ := set . "egress" (append .egress (merge (ternary (dict "to" (list (include "airflow.peer" (list $top $edge.to) | fromYaml))) dict (kindIs "map" $target)) $rule)) }}
{{- if $target }}{{ $_ := set $target "ingress" (append $target.ingress (merge (dict "from" (list (include "airflow.peer" (list $top $from) | fromYaml))) $rule)) }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $policy := $policies }}
{{- if not (has $name (list "postgres" "rabbitmq")) }}{{ $_ := set $policy "egress" (append $policy.egress (dict "ports" (include "airflow.dns" . | fromYamlArray))) }}{{ end }}
{{- end }}
{{- if $values.secrets.create }}{{ $_ := set $policies "keys" (dict "ingress" list "egress" (list (dict "ports" (include "airflow.tcp_api" . | fromYamlArray)))) }}{{ end }}
{{ toYaml $policies }}
{{- end }}

{{/* A way in for clients; without any named, for everybody. (list port clients) */}}
{{- define "airflow.entry" -}}
ports:
  {{- include "airflow.tcp" (index . 0) | nindent 2 }}
{{- with index . 1 }}
from:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "airflow.tcp" -}}
- {port: {{ . }}, protocol: TCP}
{{- end }}

{{/* 5353: the pods behind OpenShift's DNS. */}}
{{- define "airflow.dns" -}}
{{- range $port := list 53 5353 }}
- {port: {{ $port }}, protocol: UDP}
- {port: {{ $port }}, protocol: TCP}
{{- end }}
{{- end }}

{{/* The API server: as the Service `kubernetes`, and as clusters have it behind that. */}}
{{- define "airflow.tcp_api" -}}
- {port: 443, protocol: TCP}
- {port: 6443, protocol: TCP}
- {port: 8443, protocol: TCP}
- {port: 16443, protocol: TCP}
{{- end }}

{{- define "airflow.peer" -}}
podSelector:
  matchLabels:
    {{- include "airflow.selector" . | nindent 4 }}
{{- end }}
