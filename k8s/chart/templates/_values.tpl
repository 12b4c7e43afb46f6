{{/* Values: what is missing, what goes over what, and numbers. */}}

{{/* Adds what is missing to the values: a key that a file sets to nothing, or that a release of an older chart did not have yet. Null means
     something for a few keys, and stays. Then all is checked. Every template begins with it, and the first one does it for all. */}}
{{- define "kube-airflow.start" -}}
{{- if not (hasKey .Values "_started") }}
{{- include "kube-airflow.complete" (list .Values (.Files.Get "tables/defaults.yaml" | fromYaml)) }}
{{- $_ := set .Values "_started" true }}
{{- include "kube-airflow.checks" . }}
{{- end }}
{{- end }}

{{/* Renders nothing; changes the first map. (list values defaults) */}}
{{- define "kube-airflow.complete" -}}
{{- $values := index . 0 -}}
{{- range $key, $default := index . 1 }}
{{- if and (kindIs "map" $default) (kindIs "map" (index $values $key)) }}
{{- include "kube-airflow.complete" (list (index $values $key) $default) }}
{{- else if and (kindIs "invalid" (index $values $key)) (not (has $key (list "replicas" "num_workers" "uid" "gid" "ttl" "cpu" "memory" "limits" "requests"))) }}
{{- $_ := set $values $key $default }}
{{- end }}
{{- end }}
{{- end }}

{{/* One map over another, to any depth, as YAML; a null takes a key away. `merge` would take false and 0 for nothing. (list base over) */}}
{{- define "kube-airflow.over" -}}
{{- $result := deepCopy (index . 0) -}}
{{- range $key, $value := index . 1 | default dict }}
{{- $below := index $result $key }}
{{- if and (kindIs "map" $value) (kindIs "map" $below) }}{{ $value = include "kube-airflow.over" (list $below $value) | fromYaml }}{{ end }}
{{- if kindIs "invalid" $value }}{{ $_ := unset $result $key }}{{ else }}{{ $_ := set $result $key $value }}{{ end }}
{{- end }}
{{- toYaml $result }}
{{- end }}

{{/* Lists of things with names as one list, as YAML: the last of a name counts, at the place of the first. (list key list...) */}}
{{- define "kube-airflow.by" -}}
{{- $key := first . }}{{ $order := list }}{{ $found := dict -}}
{{- range $list := rest . }}
{{- range $one := $list }}
{{- $name := index $one $key | toString }}{{ if eq $key "mountPath" }}{{ $name = clean $name }}{{ end }}
{{- $order = append $order $name | uniq }}{{ $_ := set $found $name $one }}
{{- end }}
{{- end }}
{{- $result := list }}
{{- range $order }}{{ $result = append $result (index $found .) }}{{ end }}
{{- toYaml $result }}
{{- end }}

{{/* Fails when a list of the values has something of a name that is the chart's own. (list where key ours theirs fix) */}}
{{- define "kube-airflow.own" -}}
{{- $where := index . 0 }}{{ $key := index . 1 }}{{ $names := list }}{{ $fix := index . 4 -}}
{{- range index . 2 }}{{ $names = append $names (index . $key) }}{{ end }}
{{- range index . 3 }}
{{- if has (ternary (clean (index . $key)) (index . $key) (eq $key "mountPath")) $names }}{{ fail (printf "%s: %s is the chart's own; %s" $where (index . $key) $fix) }}{{ end }}
{{- end }}
{{- end }}

{{/* A quantity as a number of its unit: bytes, or cores. */}}
{{- define "kube-airflow.number" -}}
{{- $text := include "kube-airflow.text" . }}{{ $factor := 1.0 -}}
{{- $factors := dict "n" 1e-9 "u" 1e-6 "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18
    "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 "Ei" 1152921504606846976.0 }}
{{- mulf (regexFind "^[0-9.]+([eE][-+]?[0-9]+)?" $text | float64) (index $factors (regexFind "[a-zA-Z]+$" $text) | default 1.0) }}
{{- end }}

{{/* A value as text. A number from a file is a float to templates, and a large one would become 1.048576e+06. */}}
{{- define "kube-airflow.text" -}}
{{ if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* Where tasks run, as YAML. */}}
{{- define "kube-airflow.executors" -}}
{{- $table := .Files.Get "tables/executors.yaml" | fromYaml }}{{ $runs := list -}}
{{- range splitList "," .Values.airflow.executor }}{{ $runs = concat $runs (index $table (trimSuffix "Executor" .)).runs | uniq }}{{ end -}}
{{ toYaml $runs }}
{{- end }}

{{/* Whether tasks run in one of these places: `true` or nothing. (list top places) */}}
{{- define "kube-airflow.runs" -}}
{{- $runs := include "kube-airflow.executors" (index . 0) | fromYamlArray }}{{ $found := false -}}
{{- range index . 1 }}{{ if has . $runs }}{{ $found = true }}{{ end }}{{ end -}}
{{ ternary "true" "" $found }}
{{- end }}

{{/* The rows of a table that hold for this version and executor: those without `lines` and `executors`, or with ours among them. (list top file) */}}
{{- define "kube-airflow.active" -}}
{{- $top := index . 0 }}{{ $line := include "kube-airflow.line" $top }}{{ $active := list -}}
{{- range $row := $top.Files.Get (index . 1) | fromYamlArray }}
{{- if and (or (not $row.executors) (include "kube-airflow.runs" (list $top $row.executors))) (has $line ($row.lines | default (list $line))) }}{{ $active = append $active $row }}{{ end }}
{{- end }}
{{- toYaml $active }}
{{- end }}
