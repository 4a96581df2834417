# `make` lists the targets.
SHELL := /usr/bin/env bash -o pipefail
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
IMG ?= m2m-operator:latest
# The kubectl for a cluster of yours.
KUBECTL ?= $(or $(shell command -v kubectl),$(CURDIR)/$(BIN)/k8s/kubectl)
# A count: with a duration, fuzzing fails now and then for no fault of the code
# (golang/go#75804, until Go 1.27).
FUZZTIME ?= 20000x
# The race detector needs a C compiler.
RACE ?= $(if $(shell command -v "$$(go env CC)"),-race)
# Arguments of `make bench`.
ARGS ?=
# Modules of their own beside this one, for those who import or copy them.
MODULES := verify examples

##@ General

.PHONY: help
help: ## Show this list.
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Try it

.PHONY: demo
demo: build controlplane $(BIN)/local ## Show the whole life of a client on a local control plane, step by step.
	@$(LOCAL) demo

.PHONY: up
up: build controlplane $(BIN)/local ## Start a local control plane with the operator, and leave it running.
	@$(LOCAL) up

.PHONY: down
down: $(BIN)/local ## Stop what `make up` started.
	@$(LOCAL) down

.PHONY: run
run: build $(BIN)/local ## Run controller and server here, against your current kubeconfig context.
	@$(LOCAL) run

##@ Develop

.PHONY: build
build: ## Build bin/m2m-operator and bin/kubectl-m2m.
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $(BIN)/ ./cmd/m2m-operator ./cmd/kubectl-m2m

.PHONY: generate
generate: $(BIN)/controller-gen ## Generate deep copies and apply configurations.
	rm -rf api/v1alpha1/applyconfiguration
	$(BIN)/controller-gen paths=./api/v1alpha1 object:headerFile=hack/boilerplate.go.txt applyconfiguration:headerFile=hack/boilerplate.go.txt

.PHONY: manifests
manifests: $(BIN)/controller-gen ## Generate CRDs and the ClusterRoles of the roles.
	rm -f config/crd/bases/*.yaml
	$(BIN)/controller-gen paths=./api/v1alpha1 crd output:crd:dir=config/crd/bases
	$(BIN)/controller-gen paths=./controllers/... rbac:roleName=m2m-operator-controller output:rbac:dir=config/rbac/controller
	$(BIN)/controller-gen paths=./internal/registry/... rbac:roleName=m2m-operator-server output:rbac:dir=config/rbac/server
	$(BIN)/controller-gen paths=./internal/admin/... rbac:roleName=m2m-operator-api output:rbac:dir=config/rbac/api

.PHONY: fmt
fmt: $(BIN)/golangci-lint ## Format the Go code.
	$(BIN)/golangci-lint fmt

.PHONY: vet
vet: ## Run go vet.
	go vet ./...

.PHONY: lint
lint: $(BIN)/golangci-lint ## Run the linters, import fences among them.
	$(BIN)/golangci-lint run
	@for module in $(MODULES); do (cd $$module && $(CURDIR)/$(BIN)/golangci-lint run) || exit 1; done

.PHONY: verify
verify: $(BIN)/kustomize ## Fail if generated files or go.mod are not what their sources say.
	@rm -rf $(BIN)/.verify && mkdir -p $(BIN)/.verify && cp -R api config $(BIN)/.verify
	@$(MAKE) generate manifests
	@for dir in api config; do \
	  diff -ruN $(BIN)/.verify/$$dir $$dir || { echo "$$dir was out of date: it has been generated anew, commit it" >&2; exit 1; }; \
	done
	@for dir in default with-api restart token-review; do $(BIN)/kustomize build config/$$dir >/dev/null || exit 1; done
	go mod tidy -diff
	go mod verify
	@for module in $(MODULES); do go mod tidy -C $$module -diff && go mod verify -C $$module || exit 1; done

##@ Test

.PHONY: test
test: controlplane ## Run all tests, with the race detector.
	@$(if $(RACE),,echo "There is no C compiler: testing without the race detector.")
	@for module in $(MODULES); do go test -C $$module $(RACE) -timeout 20m ./... || exit 1; done
	KUBEBUILDER_ASSETS=$(K8S) go test $(RACE) -timeout 20m ./...

.PHONY: fuzz
fuzz: ## Run each fuzz test for a short while (FUZZTIME).
	@for module in . $(MODULES); do \
	  for package in $$(go list -C $$module -f '{{.Dir}}' ./...); do \
	    for name in $$(grep -hso '^func Fuzz[A-Za-z0-9_]*' $$package/*_test.go | cut -c6-); do \
	      go test -C $$package -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) . || exit 1; \
	    done; \
	  done; \
	done

.PHONY: bench
bench: controlplane ## Measure speed and memory; ARGS goes to test/bench.
	KUBEBUILDER_ASSETS=$(K8S) go run ./test/bench $(ARGS)

.PHONY: controlplane
ifdef KUBEBUILDER_ASSETS
K8S := $(KUBEBUILDER_ASSETS)
controlplane: # the user has a control plane
else
K8S := $(CURDIR)/$(BIN)/k8s
controlplane: ## Build etcd, kube-apiserver, kube-controller-manager and kubectl into bin/k8s.
	@hack/controlplane/build.sh $(K8S)
endif

##@ Deploy to the cluster of your current kubeconfig context

.PHONY: install
install: ## Install the CRDs.
	$(KUBECTL) apply --server-side -k config/crd

.PHONY: uninstall
uninstall: ## Remove the CRDs, and with them every client, its Secret and all issuers.
	$(KUBECTL) delete --ignore-not-found -k config/crd

.PHONY: deploy
deploy: $(BIN)/kustomize ## Install everything, with the image IMG.
	$(BIN)/kustomize build config/default | sed 's|image: m2m-operator:latest|image: $(IMG)|' | $(KUBECTL) apply --server-side -f -

.PHONY: undeploy
undeploy: ## Remove everything, every client and its Secret included.
	$(KUBECTL) delete --ignore-not-found -k config/default

# The tools, built again when their go.mod changes.

$(BIN)/controller-gen: PACKAGE := sigs.k8s.io/controller-tools/cmd/controller-gen
$(BIN)/kustomize: PACKAGE := sigs.k8s.io/kustomize/kustomize/v5
$(BIN)/golangci-lint: PACKAGE := github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(BIN)/controller-gen $(BIN)/kustomize: hack/tools/go.mod
$(BIN)/golangci-lint: hack/tools/golangci-lint/go.mod
$(BIN)/controller-gen $(BIN)/kustomize $(BIN)/golangci-lint:
	@echo "Building $(notdir $@)"
	@go build -C $(dir $<) -trimpath -ldflags "-s -w" -o $(CURDIR)/$@ $(PACKAGE)

LOCAL := KUBEBUILDER_ASSETS=$(K8S) $(BIN)/local
.PHONY: $(BIN)/local
$(BIN)/local:
	@go build -trimpath -o $@ ./hack/local
