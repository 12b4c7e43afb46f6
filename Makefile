# Everything this project needs, from a fresh Debian or Ubuntu with Rust and Python. `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

TARGET := x86_64-unknown-linux-musl
# The port of the UI under `make run`.
PORT ?= 8080
# What `make lock` resolves; empty means all.
AIRFLOW_VERSION ?=

.PHONY: help run test lint docs binary binary-aarch64 build build-official publish check-dags bench bench-images lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{ printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Airflow 3.3.2 on this machine with an example DAG: UI on http://localhost:8080 (PORT=...), Ctrl-C stops
	@PORT=$(PORT) scripts/run

test: ## installs what is missing, then runs every check and test
	@scripts/test

lint: ## format and clippy, warnings are errors
	@cargo fmt --check
	@cargo clippy --locked --all-targets -- -D warnings

docs: ## writes the reference pages of docs/ anew
	@cargo build --locked
	@for page in variables exit-codes roles compatibility metrics; do target/debug/kube-airflow-init reference $$page > docs/$$page.md; done

binary: ## the static release binary for x86_64
	@scripts/rust-target $(TARGET)
	@echo "==> building for $(TARGET) (minutes the first time)" >&2
	@cargo build --locked --release --target $(TARGET) --bin kube-airflow-init
	@scripts/check-binary target/$(TARGET)/release/kube-airflow-init x86_64

binary-aarch64: ## the static release binary for aarch64, from any machine
	@scripts/binary-aarch64

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

bench: ## what the entrypoint and the probes cost, against Airflow's own commands; writes docs/probe-cost.*
	@scripts/bench

lock: ## resolves requirements/*.in anew (AIRFLOW_VERSION=3.3.2 for one Airflow)
	@scripts/lock $(if $(AIRFLOW_VERSION),airflow-$(AIRFLOW_VERSION))

clean: ## removes build results and the data of `make run`; the cache folder stays
	@cargo clean
	@rm -rf .run

include k8s/kubernetes.mk
