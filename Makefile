# `make` lists the targets.
SHELL := /usr/bin/env bash -o pipefail
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := bin
VERSION ?= $(shell git describe --tags --always --dirty --abbrev=12 2>/dev/null || echo dev)
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
# Modules of their own beside this one: for those who import or copy them, and with
# dependencies that the operator doesn't have.
MODULES := verify examples hack/image test/gitops test/recipes
# Folders of config that are whole.
OVERLAYS := default with-api restart token-review namespaced uninstall
# Another Kubernetes to test against, such as 1.36.3 or 1.35.
K8S_VERSION ?=
# FIPS=1 builds and tests with the certified Go Cryptographic Module, in FIPS 140-3 mode.
FIPS ?=
GOFIPS := $(if $(FIPS),v1.0.0,off)

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
	CGO_ENABLED=0 GOFIPS140=$(GOFIPS) go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $(BIN)/ ./cmd/m2m-operator ./cmd/kubectl-m2m

.PHONY: generate
generate: $(BIN)/controller-gen ## Generate deep copies and apply configurations.
	rm -rf api/v1alpha1/applyconfiguration
	$(BIN)/controller-gen paths=./api/v1alpha1 object:headerFile=hack/boilerplate.go.txt applyconfiguration:headerFile=hack/boilerplate.go.txt

.PHONY: manifests
manifests: $(BIN)/controller-gen ## Generate CRDs, the roles' ClusterRoles, their copies in the chart, and the reference.
	rm -f config/crd/bases/*.yaml
	$(BIN)/controller-gen paths=./api/v1alpha1 crd output:crd:dir=config/crd/bases
	$(BIN)/controller-gen paths=./controllers/... rbac:roleName=m2m-operator-controller output:rbac:dir=config/rbac/controller
	$(BIN)/controller-gen paths=./internal/registry/... rbac:roleName=m2m-operator-server output:rbac:dir=config/rbac/server
	$(BIN)/controller-gen paths=./internal/admin/... rbac:roleName=m2m-operator-api output:rbac:dir=config/rbac/api
	hack/chart/sync.sh
	go run ./hack/reference

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
	@rm -rf $(BIN)/.verify && mkdir -p $(BIN)/.verify/docs && cp -R api config charts $(BIN)/.verify && cp -R docs/reference $(BIN)/.verify/docs
	@$(MAKE) generate manifests
	@for dir in api config charts docs/reference; do \
	  diff -ruN $(BIN)/.verify/$$dir $$dir || { echo "$$dir was out of date: it has been generated anew, commit it" >&2; exit 1; }; \
	done
	@for dir in $(OVERLAYS); do $(BIN)/kustomize build config/$$dir >/dev/null || exit 1; done
	@! git ls-files -z 2>/dev/null | xargs -0 -r sh -c 'find "$$@" -size +1M' find | grep . || { echo "a program, or something else that size, is in git: remove it" >&2; exit 1; }
	go mod tidy -diff
	go mod verify
	@for module in $(MODULES); do go mod tidy -C $$module -diff && go mod verify -C $$module || exit 1; done

##@ Test

# Each time anew (-count=1): Go keeps results by what tests read, and knows nothing of
# what the programs read that they start.
.PHONY: test
test: controlplane $(BIN)/kustomize $(BIN)/helm $(BIN)/promtool ## Run all tests, with the race detector; K8S_VERSION and FIPS choose another Kubernetes, and FIPS 140-3.
	@$(if $(RACE),,echo "There is no C compiler: testing without the race detector.")
	@for module in $(MODULES); do \
	  race=$(RACE); [[ $$module != hack/image ]] || race=; \
	  KUBEBUILDER_ASSETS=$(K8S) GOFIPS140=$(GOFIPS) go test -C $$module -count=1 $$race -timeout 20m ./... || exit 1; \
	done
	KUBEBUILDER_ASSETS=$(K8S) GOFIPS140=$(GOFIPS) go test -count=1 $(RACE) -timeout 20m ./...

.PHONY: e2e
e2e: build dist node ## Install dist on a real node, and let pods use it while things go wrong; needs root, and Debian's packages.
	@hack/e2e/packages.sh
	KUBEBUILDER_ASSETS=$(K8S) go test -tags e2e -count=1 -v -timeout 30m ./test/e2e

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

.PHONY: controlplane node
ifdef KUBEBUILDER_ASSETS
K8S := $(KUBEBUILDER_ASSETS)
controlplane node: # the user has them
else
K8S := $(CURDIR)/$(BIN)/k8s$(addprefix -,$(K8S_VERSION))
controlplane: ## Build etcd, kube-apiserver, kube-controller-manager and kubectl into bin/k8s.
	@K8S_VERSION=$(K8S_VERSION) hack/controlplane/build.sh $(K8S)
node: # what runs on a node, too
	@K8S_VERSION=$(K8S_VERSION) hack/controlplane/build.sh $(K8S) node
endif

##@ Ship

.PHONY: $(BIN)/image
$(BIN)/image:
	@CGO_ENABLED=0 go build -C hack/image -trimpath -o $(CURDIR)/$@ .

.PHONY: image
image: $(BIN)/image ## Make the image IMG, for amd64 and arm64, in bin/m2m-operator.oci.tar, with its bill of materials.
	$(BIN)/image build --name $(IMG) --version $(VERSION) --fips $(GOFIPS)

.PHONY: image-push
image-push: image ## Push the image to IMG, at a registry of yours.
	$(BIN)/image push --to $(IMG)

.PHONY: dist
dist: $(BIN)/kustomize $(BIN)/helm ## Write the manifests, for the image IMG, and the chart into dist.
	@rm -rf dist && mkdir -p dist
	@for pair in default:install with-api:install-with-api crd:crds uninstall:uninstall; do \
	  $(BIN)/kustomize build config/$${pair%%:*} | sed 's|image: m2m-operator:latest|image: $(IMG)|' >dist/$${pair##*:}.yaml || exit 1; \
	done
	$(BIN)/helm package charts/m2m-operator --destination dist

##@ Deploy to the cluster of your current kubeconfig context

.PHONY: install
install: ## Install the CRDs.
	$(KUBECTL) apply --server-side -k config/crd

.PHONY: uninstall
uninstall: ## Remove the CRDs, and with them every client, its Secret and all issuers.
	-$(KUBECTL) annotate --overwrite crd m2mclients.m2m-operator.dev clusterm2missuers.m2m-operator.dev m2m-operator.dev/allow-deletion=true
	$(KUBECTL) delete --ignore-not-found -k config/crd

.PHONY: deploy
deploy: $(BIN)/kustomize ## Install everything, with the image IMG.
	$(BIN)/kustomize build config/default | sed 's|image: m2m-operator:latest|image: $(IMG)|' | $(KUBECTL) apply --server-side -f -

.PHONY: undeploy
undeploy: $(BIN)/kustomize ## Remove the operator. Clients, Secrets, issuers and keys stay.
	$(BIN)/kustomize build config/uninstall | $(KUBECTL) delete --ignore-not-found -f -

# The tools, built again when their go.mod changes.

$(BIN)/controller-gen: PACKAGE := sigs.k8s.io/controller-tools/cmd/controller-gen
$(BIN)/kustomize: PACKAGE := sigs.k8s.io/kustomize/kustomize/v5
$(BIN)/golangci-lint: PACKAGE := github.com/golangci/golangci-lint/v2/cmd/golangci-lint
$(BIN)/helm: PACKAGE := helm.sh/helm/v4/cmd/helm
$(BIN)/promtool: PACKAGE := github.com/prometheus/prometheus/cmd/promtool
$(BIN)/promtool: TAGS := remove_all_sd

$(BIN)/controller-gen $(BIN)/kustomize: hack/tools/go.mod
$(BIN)/golangci-lint: hack/tools/golangci-lint/go.mod
$(BIN)/helm: hack/tools/helm/go.mod
$(BIN)/promtool: hack/tools/promtool/go.mod
$(BIN)/controller-gen $(BIN)/kustomize $(BIN)/golangci-lint $(BIN)/helm $(BIN)/promtool:
	@echo "Building $(notdir $@)"
	@go build -C $(dir $<) -trimpath -tags "$(TAGS)" -ldflags "-s -w" -o $(CURDIR)/$@ $(PACKAGE)

LOCAL := KUBEBUILDER_ASSETS=$(K8S) $(BIN)/local
.PHONY: $(BIN)/local
$(BIN)/local:
	@go build -trimpath -o $@ ./hack/local
