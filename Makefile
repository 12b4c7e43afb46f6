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

.PHONY: help run test lint docs build build-aarch64 bench lock clean

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
	@for page in variables exit-codes roles compatibility; do target/debug/kube-airflow-init reference $$page > docs/$$page.md; done

build: ## the static release binary for x86_64
	@scripts/rust-target $(TARGET)
	@echo "==> building for $(TARGET) (minutes the first time)" >&2
	@cargo build --locked --release --target $(TARGET) --bin kube-airflow-init
	@scripts/check-binary target/$(TARGET)/release/kube-airflow-init x86_64

build-aarch64: ## the static release binary for aarch64, from any machine
	@scripts/build-aarch64

bench: ## what the entrypoint costs, against `airflow db check` and `check-migrations`
	@scripts/bench

lock: ## resolves requirements/*.in anew (AIRFLOW_VERSION=3.3.2 for one Airflow)
	@scripts/lock $(if $(AIRFLOW_VERSION),airflow-$(AIRFLOW_VERSION))

clean: ## removes build results and the data of `make run`; the cache folder stays
	@cargo clean
	@rm -rf .run

include k8s/kubernetes.mk
