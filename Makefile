# Everything this project needs, from a fresh Debian or Ubuntu with Rust and Python. `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
# With what belongs into an image and without a verb, that is what is meant.
.DEFAULT_GOAL := $(if $(EMBEDDED_DAGS_LOCATION)$(ENBEDDED_DAGS_LOCATION)$(REQUIREMENTS_TXT_LOCATION),build,help)
MAKEFLAGS += --no-print-directory

# The port of the UI under `make run`.
PORT ?= 8080
# What `make sweep` runs; empty means all.
VERSIONS ?=
# What `make lock` resolves; empty means all.
AIRFLOW_VERSION ?=

.PHONY: help run test test-all sweep lint docs site binary binary-aarch64 release notices build build-official publish check-dags bench bench-images lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{ printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Airflow 3.3.2 on this machine with two example DAGs: UI on http://localhost:8080 (PORT=...), Ctrl-C stops
	@PORT=$(PORT) scripts/run

test: ## installs what is missing, then runs every check and test but the long ones, at most 40 minutes on two cores
	@scripts/test

test-all: ## the same and the long ones: every line and release of Airflow, the images, a cluster
	@scripts/test all

sweep: ## every release from 1.10.12 to the newest through every step (VERSIONS="2.4.3 3.1.8" for some); writes docs/versions.md
	@scripts/sweep $(VERSIONS)

lint: ## format, clippy, rustdoc, shellcheck, cargo-deny, the site and its links; warnings are errors
	@scripts/lint

docs: ## writes the reference pages of docs/ anew
	@cargo build --locked
	@for page in variables exit-codes roles compatibility metrics git-sync; do target/debug/kube-airflow-init reference $$page > docs/$$page.md; done

site: ## the pages as a site with search, in target/site
	@scripts/site

binary: ## the static release binary for x86_64, and its symbols beside it
	@scripts/binary x86_64

binary-aarch64: ## the same for aarch64, from any machine
	@scripts/binary aarch64

release: ## every artefact of a release into dist, without publishing anything (DRY_RUN=1: also where no tag stands)
	@scripts/release artefacts

notices: ## writes THIRD-PARTY-NOTICES.txt anew: the licences of all crates in the binary
	@scripts/notices

# Their variables, such as EMBEDDED_DAGS_LOCATION, REQUIREMENTS_TXT_LOCATION, REPOSITORY, VERSION and AIRFLOW_VERSION, come from the
# command line of make, which puts them into the environment: so a path may have spaces. docs/images.md has them all.
build: ## the image REPOSITORY:VERSION, with the DAGs of EMBEDDED_DAGS_LOCATION and the packages of REQUIREMENTS_TXT_LOCATION
	@docker/build

build-official: ## the official image (OFFICIAL_IMAGE=...) with its entrypoint replaced
	@docker/build official

publish: ## builds the image as `make build` does, and pushes it
	@docker/build publish

check-dags: ## says whether the DAG files in DIR may be deployed (BUDGET=10 seconds each; IMAGE=... checks in that image)
	@scripts/check-dags

bench-images: ## size and cold start of the image, against a shell entrypoint under tini
	@scripts/bench-images

bench: ## what all of it costs, against Airflow's own commands and other tools; writes the figures into README.md and docs/
	@scripts/bench

lock: ## resolves requirements/*.in anew (AIRFLOW_VERSION=3.3.2 for one Airflow)
	@scripts/lock $(if $(AIRFLOW_VERSION),airflow-$(AIRFLOW_VERSION))

clean: ## removes build results and the data of `make run`; the cache folder stays
	@cargo clean
	@rm -rf .run

include k8s/kubernetes.mk
