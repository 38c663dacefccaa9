# Keyward. "make help" lists the targets; the two that matter first are dev and test.
SHELL := /bin/sh
BIN := bin
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.1.4
ARGS ?=
FUZZTIME ?= 20s

# The race detector needs cgo and a C compiler. Without one the tests run without it, and say so; in CI that is a failure.
HAVE_CC := $(shell command -v $${CC:-cc} 2>/dev/null)
ifneq ($(HAVE_CC),)
RACE := -race
else
RACE :=
endif

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

.PHONY: build
build: ## Build all programs into ./bin
	@mkdir -p $(BIN)
	@go build -o $(BIN)/ ./cmd/... ./sim/pos/cmd/pos

.PHONY: dev
dev: build ## Run the whole system on this machine until Ctrl-C (ARGS="--traffic" adds traffic)
	@exec $(BIN)/keyward dev $(ARGS)

.PHONY: dev-reset
dev-reset: build ## Throw the data of "make dev" away
	@$(BIN)/keyward dev reset $(ARGS)

.PHONY: demo
demo: build ## Tell the story once on a fresh private system: issue, sign on, buy
	@$(BIN)/keyward demo $(ARGS)

.PHONY: test
test: cc-check softhsm-check ## Run all tests
	go test $(RACE) -shuffle=on -timeout 15m ./...

.PHONY: cc-check
cc-check:
	@if [ -z "$(HAVE_CC)" ]; then \
		if [ -n "$$CI" ]; then echo "make test: no C compiler, so no race detector: install gcc"; exit 1; fi; \
		echo "SKIP: no C compiler found, the tests run without the race detector (install gcc to have it)"; fi

# The PKCS#11 driver is tested on SoftHSM2, where Debian's package puts it.
.PHONY: softhsm-check
softhsm-check:
	@if [ ! -e /usr/lib/softhsm/libsofthsm2.so ]; then \
		if [ -n "$$CI" ]; then echo "make test: no SoftHSM2: install softhsm2"; exit 1; fi; \
		echo "SKIP: no SoftHSM2 found, the tests of the PKCS#11 driver are left out (install softhsm2 to have them)"; fi

.PHONY: test-short
test-short: ## Run the tests without the race detector and without the end-to-end tests
	go test -short ./...

.PHONY: bench
bench: build ## Measure posp against a bare relay and the HSM cluster against a bare client; writes reports/bench.json
	@mkdir -p reports
	@$(BIN)/keyward bench --out reports/bench.json $(ARGS)

.PHONY: fuzz
fuzz: ## Fuzz every parser for FUZZTIME each
	@for p in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do \
			echo "== $$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p || exit 1; done; done

.PHONY: lint
lint: ## Format, vet and lint
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not gofmt-clean:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	go vet ./...
	go run $(GOLANGCI) run ./...

.PHONY: vuln
vuln: ## Report known vulnerabilities of the dependencies
	go run $(GOVULNCHECK) ./...

.PHONY: up
up: ## Run the system in containers (needs Docker)
	docker compose up --build

.PHONY: down
down: ## Stop the containers and remove their data
	docker compose down --volumes

.PHONY: clean
clean: ## Remove what was built
	rm -rf $(BIN) reports
