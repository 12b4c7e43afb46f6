{{/* What the schema cannot say. Renders nothing; a message names the key and the fix, and never a value. */}}

{{- define "kube-airflow.checks" -}}
{{- $values := .Values }}{{ $top := . }}
{{- /* Texts of a form. */}}
{{- range $form := .Files.Get "tables/forms.yaml" | fromYamlArray }}
{{- range $key := $form.keys }}
{{- $value := $values }}
{{- range splitList "." $key }}{{ $value = index $value . }}{{ end }}
{{- include "kube-airflow.form" (list $top $key $key $value) }}
{{- end }}
{{- end }}
{{- $scheduler := $values.roles.scheduler }}
{{- if and (eq (include "kube-airflow.line" .) "1") (gt (int $scheduler.replicas) 1) (not (include "kube-airflow.leased" (list . $scheduler))) }}
{{- fail "roles.scheduler.replicas: without the lease two schedulers of Airflow 1.10 run tasks twice; leave it 1, or remove KUBE_AIRFLOW_LEASE" }}
{{- end }}
{{- $git := $values.dags.git }}
{{- if and $values.dags.git_sync_enabled (not $git.repository) }}
{{- fail "dags.git_sync_enabled: nothing says from where; name the repository in dags.git.repository" }}
{{- end }}
{{- if and $git.repository $values.persistence.enabled }}
{{- fail "dags.git.repository: persistence.enabled has the DAGs on a volume, and they come from one place; remove one of the two" }}
{{- end }}
{{- range $key, $said := dict "secret" $git.secret "known_hosts" $git.known_hosts "webhook.enabled" $git.webhook.enabled "policy" (eq $git.policy "hold") "ref" $git.ref "sub_path" $git.sub_path }}
{{- if and $said (not $git.repository) }}{{ fail (printf "dags.git.%s: there is no repository; name it in dags.git.repository, or remove this" $key) }}{{ end }}
{{- end }}
{{- if and (eq $git.policy "hold") (eq (include "kube-airflow.line" .) "3") }}
{{- fail "dags.git.policy: Airflow 3 keeps each run on its commit, and nothing is held for it; leave it immediate" }}
{{- end }}
{{- if and $git.webhook.enabled (not $git.secret) }}
{{- fail "dags.git.webhook.enabled: there is no secret that messages are signed with; put it under the key webhook into a Secret, and name that in dags.git.secret" }}
{{- end }}
{{- if and $git.known_hosts (hasPrefix "http" $git.repository) }}
{{- fail "dags.git.known_hosts: is for ssh, and dags.git.repository is for http; remove it" }}
{{- end }}
{{- if and $git.repository (not (hasPrefix "http" $git.repository)) (not $git.secret) }}
{{- fail "dags.git.secret: ssh wants a key; put it under the key ssh into a Secret, and known_hosts beside it, and name that Secret" }}
{{- end }}
{{- if and $values.airflow.airflow_cfg.enable (not $values.airflow.airflow_cfg.data) }}
{{- fail "airflow.airflow_cfg.data: is empty, and airflow.airflow_cfg.enable says that it is the template of airflow.cfg" }}
{{- end }}
{{- $cfg := include "kube-airflow.cfg" . }}
{{- if or (include "kube-airflow.credentials" $cfg) (regexMatch "(?mi)^\\s*(fernet_key|[a-z_]*secret_key|jwt_secret|[a-z_]*password)\\s*=\\s*[^{\\s]" $cfg) }}
{{- fail "airflow.airflow_cfg.data: a key or password is written into it, and it becomes a ConfigMap; write the name of a variable, such as {{ FERNET_KEY }} or {{ POSTGRES_CREDS }}" }}
{{- end }}
{{- $names := list }}{{ $executors := .Files.Get "tables/executors.yaml" | fromYaml }}
{{- range splitList "," $values.airflow.executor }}
{{- $name := trimSuffix "Executor" . }}{{ $names = append $names (printf "%sExecutor" $name) }}{{ $known := index $executors $name }}
{{- if semverCompare (printf "<%s-0" $known.since) $values.airflow.version }}{{ fail (printf "airflow.executor: %s is there from Airflow %s on; take another one, such as Celery" $name $known.since) }}{{ end }}
{{- with $known.before }}
{{- if semverCompare (printf ">=%s-0" .) $values.airflow.version }}{{ fail (printf "airflow.executor: Airflow %s has no %s any more; write the two with a comma, such as Celery,Kubernetes" . $name) }}{{ end }}
{{- end }}
{{- end }}
{{- if and (gt (len $names) 1) (semverCompare "<2.10.0-0" $values.airflow.version) }}
{{- fail "airflow.executor: several are possible from Airflow 2.10 on; take one, or CeleryKubernetes" }}
{{- end }}
{{- if ne (len $names) (len (uniq $names)) }}{{ fail "airflow.executor: names one of them twice; leave one out" }}{{ end }}
{{- with regexFind "(?mi)^[ \\t]*executor[ \\t]*=[ \\t]*\\S[^\\n]*" $cfg }}
{{- if ne (join "," $names) (regexReplaceAll "^[^=]*=" . "" | nospace) }}{{ fail "airflow.airflow_cfg.data: names another executor than airflow.executor, on which roles and policies depend; leave it out there" }}{{ end }}
{{- end }}
{{- range $key := list "webserver_config" "local_settings" }}
{{- $data := (index $values.airflow $key).data }}
{{- if or (include "kube-airflow.credentials" $data) (regexMatch `(?i)(password|secret_key|client_secret|api_key)['"]?\s*[:=]\s*['"][^'"]` $data) }}
{{- fail (printf "airflow.%s.data: a key or password is written into it, and it becomes a ConfigMap; read it from os.environ, or put the file into airflow.%s.secret" $key $key) }}
{{- end }}
{{- end }}
{{- range $key, $value := $values.rabbitmq.config }}
{{- if regexMatch "(^|[._])pass(word)?$" $key }}{{ fail (printf "rabbitmq.config.%s: this is a ConfigMap, which anybody may read; give it by secrets.from.RABBITMQ_PASSWORD" $key) }}{{ end }}
{{- end }}
{{- range $key, $value := $values.redis.config }}
{{- if has $key (list "requirepass" "masterauth" "user" "aclfile" "primaryauth") }}{{ fail (printf "redis.config.%s: this is a ConfigMap, which anybody may read; give the password by secrets.from.REDIS_PASSWORD" $key) }}{{ end }}
{{- if has $key (list "bind" "port" "dir" "appendonly" "include" "save" "daemonize" "unixsocket" "tls-port") }}{{ fail (printf "redis.config.%s: the chart sets this option; leave it out" $key) }}{{ end }}
{{- end }}
{{- if include "kube-airflow.credentials" $values.logs.remote.folder }}
{{- fail "logs.remote.folder: a password is written into it; name a connection in logs.remote.conn_id" }}
{{- end }}
{{- with $values.disk.home_path }}
{{- range $ours := list "/tmp" "/run/airflow" $values.airflow.dag_path $values.airflow.plugins_path }}
{{- if hasPrefix (printf "%s/" (clean $values.disk.home_path)) (printf "%s/" (clean $ours)) }}
{{- fail (printf "disk.home_path: an empty folder there would hide %s; take another one, such as /var/lib/airflow" $ours) }}
{{- end }}
{{- end }}
{{- end }}
{{- $node_ports := list }}
{{- range $role := list "webserver" "flower" }}
{{- $service := (index $values.roles $role).service }}
{{- if and (not (kindIs "invalid" $service.node_port)) (eq $service.type "ClusterIP") }}
{{- fail (printf "roles.%s.service.node_port: a Service of type ClusterIP has none; set roles.%s.service.type: NodePort" $role $role) }}
{{- end }}
{{- with $service.node_port }}
{{- if has (int .) $node_ports }}{{ fail (printf "roles.%s.service.node_port: is that of roles.webserver as well; take another one" $role) }}{{ end }}
{{- $node_ports = append $node_ports (int .) }}
{{- end }}
{{- if and $service.loadBalancerSourceRanges (ne $service.type "LoadBalancer") }}
{{- fail (printf "roles.%s.service.loadBalancerSourceRanges: only a LoadBalancer has them; set roles.%s.service.type, or use network_policy.clients" $role $role) }}
{{- end }}
{{- end }}
{{- $proxied := list }}
{{- range $which := list "web" "flower" }}
{{- if include "kube-airflow.exposed" (list $top $which) }}
{{- range include "kube-airflow.hosts" (list $top $which) | fromYamlArray }}
{{- if not .name }}{{ fail "ingress.host: is empty; set it to the name under which people open the UI" }}{{ end }}
{{- $proxied = append $proxied .name }}
{{- end }}
{{- end }}
{{- end }}
{{- if and $values.gateway.enabled (not $values.ingress.host) }}
{{- fail "ingress.host: is empty; set it to the name under which people open the UI" }}
{{- end }}
{{- if and (or $values.gateway.enabled (ne (len $proxied) (len (uniq $proxied)))) (eq $values.ingress.path.web $values.ingress.path.flower) }}
{{- fail "ingress.path.flower: is the path of the UI as well; give it one of its own, for example /flower" }}
{{- end }}
{{- if and $values.delegation.enabled (not $values.delegation.namespace) }}
{{- fail "delegation.namespace: is empty; name the namespace in which tasks may run pods" }}
{{- end }}
{{- if and $values.delegation.enabled (eq $values.delegation.namespace .Release.Namespace) }}
{{- fail "delegation.namespace: is the namespace of Airflow itself, where a task's pod could mount every Secret; name another one" }}
{{- end }}
{{- if and $values.gateway.enabled (not $values.gateway.name) }}
{{- fail "gateway.name: is empty; name the Gateway that the route belongs to" }}
{{- end }}
{{- range $object := list "monitor" "rules" "dashboard" }}
{{- if and (index $values.metrics $object).enabled (not $values.metrics.enabled) }}
{{- fail (printf "metrics.%s.enabled: no role serves metrics; set metrics.enabled, or remove this" $object) }}
{{- end }}
{{- end }}
{{- if and $values.pgbouncer.enabled $values.postgres.direct }}
{{- fail "postgres.direct: is for a pooler of yours, and pgbouncer.enabled runs one here; name the server in postgres.host, and remove this" }}
{{- end }}
{{- range $key, $value := $values.pgbouncer.config }}
{{- if has $key (list "listen_addr" "listen_port" "auth_type" "auth_file" "pool_mode" "default_pool_size" "max_client_conn" "server_tls_sslmode" "server_tls_ca_file") }}
{{- fail (printf "pgbouncer.config.%s: the chart sets this option; use the key of its own of pgbouncer or postgres.tls, or leave it out" $key) }}
{{- end }}
{{- end }}
{{- if and (or $values.logs.persistence.shared $values.logs.persistence.existingClaim) (not (and $values.logs.persistence.enabled $values.logs.persistence.shared)) }}
{{- fail "logs.persistence.shared: one claim for all logs wants logs.persistence.enabled and shared; set both, or remove shared and existingClaim" }}
{{- end }}
{{- if and $values.metrics.otel.host (eq (include "kube-airflow.line" .) "1") }}
{{- fail "metrics.otel.host: Airflow 1.10 knows no OpenTelemetry; use metrics.statsd, or metrics.enabled" }}
{{- end }}
{{- if and $values.rabbitmq.host $values.redis.host }}
{{- fail "rabbitmq.host and redis.host: both name a broker, and Celery has one; remove the one that celery.broker does not say" }}
{{- end }}
{{- $by_url := eq (include "kube-airflow.broker" .) "url" }}
{{- if and $by_url (or $values.rabbitmq.host $values.redis.host) }}
{{- fail (printf "celery.broker: url takes the address from a Secret, and %s.host names another broker; remove one of them" (ternary "rabbitmq" "redis" (ne $values.rabbitmq.host ""))) }}
{{- end }}
{{- if and $by_url (not $values.secrets.from.BROKER_URL) $values.secrets.create }}
{{- fail "celery.broker: url takes the address from a Secret; name it in secrets.from.BROKER_URL, or put all keys into one and set secrets.create: false" }}
{{- end }}
{{- range $name, $row := $values.celery.groups }}
{{- if and $by_url (eq (dig "keda" "by" "database" $row) "broker") }}
{{- fail (printf "celery.groups.%s.keda.by: broker asks a server of the values, and celery.broker is url; set it to database" $name) }}
{{- end }}
{{- end }}
{{- if and $by_url (eq $values.roles.worker.keda.by "broker") }}
{{- fail "roles.worker.keda.by: broker asks a server of the values, and celery.broker is url; set it to database" }}
{{- end }}
{{- if and $values.secrets.from.BROKER_URL (not $by_url) }}
{{- fail "secrets.from.BROKER_URL: is read with celery.broker: url alone; set it, or remove this" }}
{{- end }}
{{- range $broker, $other := dict "rabbitmq" "redis" "redis" "rabbitmq" }}
{{- if and (index $values $broker).host (eq (include "kube-airflow.broker" $top) $other) }}
{{- fail (printf "%s.host: names a broker, and celery.broker names %s; set celery.broker: %s, or remove %s.host" $broker $other $broker $broker) }}
{{- end }}
{{- end }}
{{- /* What is meant for a server of yours, without its host; and the other way round. */}}
{{- $postgres := dict
    "port" (ne (int $values.postgres.port) 5432)
    "direct" (ne $values.postgres.direct "")
    "tls.mode" (has $values.postgres.tls.mode (list "require" "verify-ca" "verify-full"))
    "tls.ca_secret" (ne $values.postgres.tls.ca_secret "") }}
{{- $rabbitmq := dict
    "port" (not (has (int $values.rabbitmq.port) (list 0 5672)))
    "tls.enabled" $values.rabbitmq.tls.enabled
    "tls.ca_secret" (ne $values.rabbitmq.tls.ca_secret "") }}
{{- $redis := dict
    "port" (ne (int $values.redis.port) 6379)
    "user" (ne $values.redis.user "")
    "auth" (not $values.redis.auth)
    "tls.enabled" $values.redis.tls.enabled
    "tls.ca_secret" (ne $values.redis.tls.ca_secret "") }}
{{- if and $values.redis.user (not $values.redis.auth) }}
{{- fail "redis.auth: is false, and redis.user is a user, who has a password; set it to true, or remove the user" }}
{{- end }}
{{- range $server, $keys := dict "postgres" $postgres "rabbitmq" $rabbitmq "redis" $redis }}
{{- $host := (index $values $server).host }}{{ $password := printf "%s_PASSWORD" (upper $server) }}
{{- if $host }}
{{- if and $values.secrets.create (not (index $values.secrets.from $password)) (or (eq $server "postgres") (eq $server (include "kube-airflow.broker" $top))) (or (ne $server "redis") $values.redis.auth) }}
{{- fail (printf "%s.host: is a server of yours, and its password would be a random one; name its Secret in secrets.from.%s, or put all into one and set secrets.create: false" $server $password) }}
{{- end }}
{{- else }}
{{- range $key, $foreign := $keys }}
{{- if $foreign }}
{{- fail (printf "%s.%s: the server that is run here has its usual port and user, a password and no TLS; name yours in %s.host, or remove this" $server $key $server) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- /* Rows: roles, groups of workers, and whoever else has resources. */}}
{{- $resources := dict "postgres" $values.postgres.resources "rabbitmq" $values.rabbitmq.resources "redis" $values.redis.resources "pgbouncer" $values.pgbouncer.resources "jobs" $values.jobs.resources "kubernetes" $values.kubernetes.resources }}
{{- range $name := include "kube-airflow.instances" . | fromYamlArray }}
{{- $row := include "kube-airflow.row" (list $top $name) | fromYaml }}
{{- $_ := set $resources $row.where $row.resources }}
{{- if gt (int (dig "autoscaling" "min" 0 $row)) (int (dig "autoscaling" "max" 0 $row)) }}
{{- fail (printf "%s.autoscaling.min: is more than max; exchange them" $row.where) }}
{{- end }}
{{- if and $row.autoscaling (not $row.autoscaling.cpu) (not $row.autoscaling.memory) (not $row.autoscaling.metrics) }}
{{- fail (printf "%s.autoscaling: has neither cpu nor memory nor metrics; add one, cpu and memory in per cent of the request" $row.where) }}
{{- end }}
{{- range $kind := list "cpu" "memory" }}
{{- if and (index ($row.autoscaling | default dict) $kind) (not (index ($row.resources.requests | default dict) $kind)) }}
{{- fail (printf "%s.autoscaling.%s: is a per cent of a request that is not there; set %s.resources.requests.%s" $row.where $kind $row.where $kind) }}
{{- end }}
{{- end }}
{{- range $key, $text := $row.image | default dict }}
{{- include "kube-airflow.form" (list $top (printf "airflow.image.%s" $key) (printf "%s.image.%s" $row.where $key) $text) }}
{{- end }}
{{- if and $row.autoscaling (not $row.autoscaling.max) }}{{ fail (printf "%s.autoscaling.max: is not there; say the most pods that there may be" $row.where) }}{{ end }}
{{- if and (dig "keda" "enabled" false $row) $row.autoscaling }}
{{- fail (printf "%s.keda.enabled: %s.autoscaling scales the same pods; remove one of them" $row.where $row.where) }}
{{- end }}
{{- if gt (int (dig "keda" "min" 0 $row)) (int (dig "keda" "max" 0 $row)) }}
{{- fail (printf "%s.keda.min: is more than max; exchange them" $row.where) }}
{{- end }}
{{- if or (dig "securityContext" "privileged" false $row) (dig "securityContext" "allowPrivilegeEscalation" false $row) }}
{{- fail (printf "%s.securityContext: no pod of Airflow needs privileges; remove it" $row.where) }}
{{- end }}
{{- if include "kube-airflow.groomed" (list $top $row) }}
{{- $size := divf (include "kube-airflow.number" (include "kube-airflow.log_size" (list $top $row))) 1048576 }}
{{- if (ge (include "kube-airflow.megabytes" (list $top $row) | float64) $size) }}
{{- fail (printf "logs.groomer.megabytes: is not below the size of the log folder of %s, so a pod would be evicted before old logs go; lower it, or leave it null" $row.where) }}
{{- end }}
{{- end }}
{{- end }}
{{- if or $values.kubernetes.securityContext.privileged $values.kubernetes.securityContext.allowPrivilegeEscalation }}
{{- fail "kubernetes.securityContext: no pod of Airflow needs privileges; remove it" }}
{{- end }}
{{- range $key, $text := $values.kubernetes.image }}
{{- include "kube-airflow.form" (list $top (printf "airflow.image.%s" $key) (printf "kubernetes.image.%s" $key) $text) }}
{{- end }}
{{- range $group, $said := $values.celery.groups }}
{{- if not $said.queues }}{{ fail (printf "celery.groups.%s.queues: is empty; name the queues that these workers serve" $group) }}{{ end }}
{{- if not (include "kube-airflow.runs" (list $top (list "Celery"))) }}{{ fail (printf "celery.groups.%s: there are no workers with airflow.executor %s; remove the group" $group $values.airflow.executor) }}{{ end }}
{{- end }}
{{- range $where, $resource := $resources }}
{{- range $kind, $request := $resource.requests }}
{{- $limit := index ($resource.limits | default dict) $kind }}
{{- if not (kindIs "invalid" $limit) }}
{{- if gt (include "kube-airflow.number" $request | float64) (include "kube-airflow.number" $limit | float64) }}
{{- fail (printf "%s.resources.requests.%s: is more than the limit; raise %s.resources.limits.%s, or lower this" $where $kind $where $kind) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if or $values.airflow.securityContext.privileged $values.airflow.securityContext.allowPrivilegeEscalation }}
{{- fail "airflow.securityContext: no pod of Airflow needs privileges; remove it" }}
{{- end }}
{{- end }}

{{/* Fails when a text has not the form of a key. (list top key where text) */}}
{{- define "kube-airflow.form" -}}
{{- $key := index . 1 }}{{ $where := index . 2 }}{{ $text := index . 3 | toString -}}
{{- range $form := (index . 0).Files.Get "tables/forms.yaml" | fromYamlArray }}
{{- if and (has $key $form.keys) (not (regexMatch $form.form $text)) }}{{ fail (printf "%s: is not %s" $where $form.is) }}{{ end }}
{{- end }}
{{- end }}

{{/* What the API server would refuse of a pod, or what shows a secret in it. (dict where options containers volumes [claim]) */}}
{{- define "kube-airflow.check_pod" -}}
{{- $where := .where }}{{ $volumes := compact (list .claim) -}}
{{- include "kube-airflow.once" (list (printf "containers and initContainers of %s" $where) "name" .containers) }}
{{- include "kube-airflow.once" (list (printf "volumes of %s" $where) "name" .volumes) }}
{{- range .volumes }}{{ $volumes = append $volumes .name }}{{ end }}
{{- range $container := .containers }}
{{- $of := printf "%s, container %s" $where .name }}
{{- include "kube-airflow.once" (list (printf "env of %s" $of) "name" .env) }}
{{- include "kube-airflow.once" (list (printf "volumeMounts of %s" $of) "mountPath" .volumeMounts) }}
{{- range .volumeMounts }}
{{- if not (has .name $volumes) }}{{ fail (printf "volumeMounts of %s: there is no volume %s; add it to volumes" $of .name) }}{{ end }}
{{- end }}
{{- range .env }}
{{- if and (hasKey . "value") (include "kube-airflow.reveals" (list .name .value)) }}
{{- fail (printf "env of %s: %s would be written into the manifest; take it from a Secret by valueFrom" $of .name) }}
{{- end }}
{{- end }}
{{- $limits := dig "resources" "limits" dict . | default dict }}
{{- range $kind, $request := dig "resources" "requests" dict . | default dict }}
{{- $limit := index $limits $kind }}
{{- if and (kindIs "invalid" $limit) (or (contains "/" $kind) (hasPrefix "hugepages-" $kind)) }}
{{- fail (printf "resources of %s: %s is requested without a limit, and both must be the same; add the limit" $of $kind) }}
{{- end }}
{{- if not (kindIs "invalid" $limit) }}
{{- if gt (include "kube-airflow.number" $request | float64) (include "kube-airflow.number" $limit | float64) }}
{{- fail (printf "resources of %s: more %s is requested than the limit allows; raise the limit" $of $kind) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if and (eq (.options.dnsPolicy | default "") "None") (not (dig "dnsConfig" "nameservers" nil .options)) }}
{{- fail (printf "dnsPolicy of %s: None wants dnsConfig.nameservers; add them" $where) }}
{{- end }}
{{- end }}

{{/* Fails when two of a list have one name. (list where key things) */}}
{{- define "kube-airflow.once" -}}
{{- $where := index . 0 }}{{ $key := index . 1 }}{{ $seen := list -}}
{{- range index . 2 | default list }}
{{- $name := index . $key | toString }}{{ if eq $key "mountPath" }}{{ $name = clean $name }}{{ end }}
{{- if has $name $seen }}{{ fail (printf "%s: %s is there twice; give one of them another name, or remove it" $where $name) }}{{ end }}
{{- $seen = append $seen $name }}
{{- end }}
{{- end }}
