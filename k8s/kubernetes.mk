# The verbs of a deployment. They speak to the cluster and namespace of the current kubectl context, or of CONTEXT and NAMESPACE.

RELEASE ?= airflow
NAMESPACE ?=
CONTEXT ?=
MANIFEST ?= k8s/airflow.all.yaml
VALUES ?=
WORKERS ?=
IMAGE ?=
KUBECTL := kubectl $(if $(CONTEXT),--context $(CONTEXT)) $(if $(NAMESPACE),--namespace $(NAMESPACE))
HELM ?= helm
# The release `airflow` has the plain names.
PART = $(if $(filter airflow,$(RELEASE)),,$(RELEASE)-)
OURS = app.kubernetes.io/name=airflow,app.kubernetes.io/instance=$(RELEASE)

NO_CLUSTER = || { echo "  fix: kubectl config get-contexts, then CONTEXT=... and NAMESPACE=..." >&2; exit 1; }
# The command that shows the first user's password, wherever the values say that it is.
PASSWORD = {{range (index .spec.template.spec.containers 0).env}}{{if eq .name "_AIRFLOW_WWW_USER_PASSWORD"}}{{with .valueFrom.secretKeyRef}}    $(KUBECTL) get secret {{.name}} -o go-template={{"\x27{{index .data \x22"}}{{.key}}{{"\x22 | base64decode}}\x27\n"}}{{end}}{{end}}{{end}}

.PHONY: create apply delete list-pods browse-web browse-flower scale helm-install set-image diagnose manifests e2e bench-cluster

# What is saved lets the first `apply` find nothing to do.
create: ## Kubernetes: everything, in one command (NAMESPACE=..., MANIFEST=...)
	@echo "==> creating what $(MANIFEST) describes; 'make list-pods' shows how it comes up" >&2
	@$(KUBECTL) create --save-config -f $(MANIFEST) || { echo "  fix: AlreadyExists wants 'make apply'; if no cluster answers: kubectl config get-contexts, then CONTEXT=..." >&2; exit 1; }

apply: ## Kubernetes: brings the cluster to what the manifest says
	@echo "==> applying $(MANIFEST)" >&2
	@$(KUBECTL) apply -f $(MANIFEST) $(NO_CLUSTER)

delete: ## Kubernetes: removes everything but the data and the Secret
	@echo "==> deleting what $(MANIFEST) describes; the volumes and the Secret airflow-keys stay" >&2
	@$(KUBECTL) delete --ignore-not-found -f $(MANIFEST) $(NO_CLUSTER)
	@$(KUBECTL) delete --ignore-not-found jobs -l '$(OURS)' $(NO_CLUSTER)
	@echo "  for good: kubectl delete pvc,secret of the release, see docs/kubernetes.md" >&2

list-pods: ## Kubernetes: the pods of the deployment
	@$(KUBECTL) get pods -o wide -l $(OURS) $(NO_CLUSTER)

browse-web: ## Kubernetes: the UI on http://localhost:8080 (PORT=...), until Ctrl-C
	@echo "==> the UI: http://localhost:$(PORT)$$($(KUBECTL) get configmap $(PART)airflow-settings -o 'jsonpath={.data.AIRFLOW_URL_PREFIX}'), login:" >&2
	@$(KUBECTL) get deployment $(PART)webserver -o go-template='$(PASSWORD)' >&2 $(NO_CLUSTER)
	@$(KUBECTL) port-forward service/$(PART)webserver $(PORT):8080

browse-flower: ## Kubernetes: flower on http://localhost:5555/flower, until Ctrl-C
	@echo "==> flower: http://localhost:5555$$($(KUBECTL) get configmap $(PART)airflow-settings -o 'jsonpath={.data.FLOWER_URL_PREFIX}'), with the login of the UI" >&2
	@$(KUBECTL) port-forward service/$(PART)flower 5555:5555

scale: ## Kubernetes: the number of workers (WORKERS=3); one that goes ends its tasks first
	@[ -n "$(WORKERS)" ] || { echo "error: WORKERS is not set" >&2; echo "  fix: make scale WORKERS=3" >&2; exit 2; }
	@echo "==> $(WORKERS) workers; the next 'apply' or 'helm upgrade' brings back the number of the manifest" >&2
	@$(KUBECTL) scale statefulset/$(PART)worker --replicas=$(WORKERS)

helm-install: ## Kubernetes: installs or upgrades the chart (RELEASE=airflow VALUES=my.yaml)
	@command -v $(HELM) >/dev/null || { echo "error: there is no helm" >&2; echo "  fix: HELM=\$$(scripts/tool helm), or 'make create' without it" >&2; exit 1; }
	@echo "==> release $(RELEASE) from k8s/chart $(if $(VALUES),with $(VALUES))" >&2
	@$(HELM) upgrade --install $(RELEASE) k8s/chart $(if $(CONTEXT),--kube-context $(CONTEXT)) $(if $(NAMESPACE),--namespace $(NAMESPACE) --create-namespace) $(if $(VALUES),--values $(VALUES))

set-image: ## Kubernetes: another image for all Airflow pods (IMAGE=registry/airflow:tag)
	@[ -n "$(IMAGE)" ] || { echo "error: IMAGE is not set" >&2; echo "  fix: make set-image IMAGE=registry.example.com/airflow:2026-03-01" >&2; exit 2; }
	@echo "==> $(IMAGE) for all roles; another version of Airflow wants its migration, and so 'make helm-install'" >&2
	@$(KUBECTL) get deployments,statefulsets -l '$(OURS),app.kubernetes.io/component notin (postgres,rabbitmq,redis)' -o name | while read -r workload; do \
		$(KUBECTL) set image "$$workload" "$${workload##*/$(PART)}=$(IMAGE)"; done

diagnose: ## Kubernetes: pods, last words, warnings, and what each role says of itself
	@scripts/kube-diagnose "$(OURS)" $(KUBECTL)

manifests: ## writes the schema of the values, docs/values.md and k8s/airflow.all.yaml anew from the chart
	@scripts/values-table
	@scripts/render-manifests

e2e: ## the manifests on the cluster of the current kubectl context (KIND=1: on a kind cluster of its own)
	@KIND=$(KIND) scripts/e2e

bench-cluster: ## ten minutes of all probes of a quiet deployment, against those of Airflow's official chart in the same pods
	@scripts/bench-cluster
