# Everything that a contributor or CI runs. `make` alone prints the list.

GO            ?= go
FUZZTIME      ?= 30s
# Built from source by go run, so that it does not enter go.mod; about 80 s the first time on two cores.
GOLANGCI      := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
ENGINES       := $(GO) run ./deploy/engines
# What test-engines starts, and what tests must not skip there.
TEST_ENGINES  := kafka kafka3 clickhouse cassandra

empty :=
comma := ,
space := $(empty) $(empty)

.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: dev
dev: build ## build and run on this machine: everything in one process, data in ./headwater-data
	./bin/headwater dev

.PHONY: build
build: ## build bin/headwater
	$(GO) build -trimpath -o bin/headwater ./cmd/headwater

.PHONY: check
check: lint test test-models test-roles test-engines ## what CI runs

# -short: random programs run a fifth of their length here, and whole in test-models. The scripts of the command
# line start it 150 times, which takes a second each with the race detector; docs types what its pages say, and the
# demo loads flights through the client. What these three call is raced elsewhere.
# GOGC: the tests are small, and collecting their garbage under the race detector is a fifth of their time.
# Vet is lint's.
.PHONY: test
test: ## all tests that need nothing but Go, with the race detector
	GOGC=400 $(GO) test -race -short -vet=off $$($(GO) list ./... | grep -v -e '/cmd/headwater/cli$$' -e '/cmd/headwater/demo$$' -e '/docs$$')
	$(GO) test -short -vet=off ./cmd/headwater/cli ./cmd/headwater/demo ./docs

.PHONY: test-models
test-models: ## what is shorter in test at full length, without the race detector
	$(GO) test -count=1 -vet=off ./counter/... ./kv/... ./consumers/... ./wal ./wal/pebblelog ./wal/pebbletokens ./wal/pebblefail ./namespace
	$(GO) test -count=1 -vet=off -run 'OverPowerLoss|TestPowerLoss|TestModel|TestCountModel|CatchesUp|OfEverySize' ./proof ./cmd/headwater/server ./client

# The tests of the server talk to a gateway with a worker behind it, and a log on a stand-in for Kafka.
.PHONY: test-roles
test-roles: ## the server's tests again, over a gateway and a worker, without the race detector
	HEADWATER_TEST_ROLES=split $(GO) test -count=1 -vet=off -timeout 8m ./cmd/headwater/server

# One shell holds the engines: they go down however the tests end, and their exit code is kept.
# -p 1: packages take turns, because a test that kills a broker must not disturb another's.
.PHONY: test-engines
test-engines: ## start real Kafka (one broker, and three), ClickHouse's engine and Cassandra, run the engine and contract tests on it, stop it
	@set -e; \
	trap 'code=$$?; $(ENGINES) down || code=1; exit $$code' EXIT; \
	trap 'exit 130' INT; trap 'exit 143' TERM; \
	$(ENGINES) up $(TEST_ENGINES); \
	. ./.engines/env; \
	HEADWATER_REQUIRE_ENGINES=$(subst $(space),$(comma),$(TEST_ENGINES)); export HEADWATER_REQUIRE_ENGINES; \
	$(GO) test -race -count=1 -p 1 -run Engine ./...; \
	HEADWATER_TEST_ROLES=split $(GO) test -count=1 -vet=off -run 'Engine(ClickHouse|CounterEvents|Cassandra)' ./cmd/headwater/server; \
	$(GO) test -count=1 -vet=off -run EngineTorture ./proof

.PHONY: engines-up
engines-up: ## start the test engines and leave them running; then: . ./.engines/env
	$(ENGINES) up

.PHONY: engines-down
engines-down: ## stop the test engines and remove their data
	$(ENGINES) down

.PHONY: cluster-up
cluster-up: ## start three brokers, Cassandra, a gateway and two workers on this machine, without Docker
	$(GO) run ./deploy/cluster up

.PHONY: cluster-down
cluster-down: ## stop them and remove their data
	$(GO) run ./deploy/cluster down

.PHONY: lint
lint: ## gofmt, go.mod, go vet, golangci-lint
	@unformatted=$$(find . -name '*.go' -not -path './.engines/*' -not -path '*/testdata/*' -exec gofmt -l {} +); \
	if [ -n "$$unformatted" ]; then echo "not gofmt-ed:"; echo "$$unformatted"; exit 1; fi
	@grep -Eq '^go 1\.[0-9]+(\.0)?$$' go.mod || \
		{ echo "go.mod: the go directive asks for a patch release, which shuts out others of the same Go; end it with .0"; exit 1; }
	$(GO) mod tidy -diff
	$(GO) vet ./...
	$(GOLANGCI) run ./...

.PHONY: generate
generate: ## regenerate checked-in code: api/headwater/v1 from its .proto files
	./api/generate.sh

# go test -fuzz takes one target of one package at a time.
.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (default 30s) each
	@set -e; \
	grep -rlE --include='*_test.go' '^func Fuzz[A-Z]' . | xargs -r -n 1 dirname | sort -u | while read -r dir; do \
		for target in $$($(GO) test -list '^Fuzz' "$$dir" | grep '^Fuzz'); do \
			echo "fuzz $$dir $$target for $(FUZZTIME)"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$dir"; \
		done; \
	done

.PHONY: bench
bench: ## run the benchmark harness; results go to bench/
	$(GO) run ./bench

ifneq ($(wildcard deploy/planted/*.go),)
.PHONY: planted
planted: ## apply each planted bug and expect its test to fail
	$(GO) run ./deploy/planted
endif
