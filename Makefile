# The menu. Every target is a thin call of cargo or of a script in scripts/.

KILLS ?= 20

.PHONY: help cluster node-loss away zero-drop upheaval endpoint-change sim sim-full demo demo-down mutants test ha-proof build fmt lint deny doc bench bench-hollow fuzz up clean store-proof histories growth restart

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: ## From a clean clone to a served, rolled and undone sample on the local Docker Engine
	scripts/demo.sh

demo-down: ## Remove what the demo made
	scripts/demo.sh down

test: ## Everything that can run on this machine; says loudly what was skipped
	scripts/test.sh

cluster: ## N=3 hosts with a Docker Engine each on this machine, joined; prints the time it took and how to use it
	scripts/hosts.sh cluster $(or $(N),3) $(CLUSTER_FLAGS)

node-loss: ## KILLS=20 hosts of N=3 die: times to notice and to replace, beside Docker swarm mode
	scripts/hosts.sh node_loss --hosts $(or $(N),3) --kills $(KILLS)

away: ## The control plane is killed for SECS=600 under requests to a Service on N=3 hosts: nobody may notice
	scripts/hosts.sh away --hosts $(or $(N),3) --secs $(or $(SECS),600)

zero-drop: ## REQUESTS=1000000 to a Service and an Ingress during rolls, drains and kills on N=3 hosts, beside swarm mode: none may fail
	scripts/hosts.sh zero_drop --hosts $(or $(N),3) --requests $(or $(REQUESTS),1000000)

upheaval: ## FAULTS=500 rolls, moves, kills and partitions on N=3 hosts (SEED=1): every table must follow the objects, nothing may be left
	scripts/hosts.sh upheaval --hosts $(or $(N),3) --faults $(or $(FAULTS),500) --seed $(or $(SEED),1)

endpoint-change: ## From a change of endpoints to the first connection on the new set, with 10 Services about and with SERVICES=10000
	scripts/hosts.sh endpoint_change --services $(or $(SERVICES),10000)

ha-proof: ## Three servers on three etcd members and three engines under KILLS=20 random kills and pauses
	scripts/ha-proof.sh $(KILLS)

build: ## Release binaries: drover, droverctl, drover-runc
	scripts/prepare.sh build
	cargo build --release --bins --workspace

fmt: ## Format
	cargo fmt --all

lint: ## Formatting and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

mutants: ## Plant every known bug, one by one: the harness named for it must find it (docs/mutants.md)
	scripts/prepare.sh test
	scripts/mutants.sh

deny: ## Licences, duplicate versions and sources of the dependencies
	cargo deny check licenses bans sources

doc: ## API documentation
	cargo doc --workspace --no-deps --document-private-items

sim: ## Plays SEEDS seeds (or one SEED) of faults against the whole control plane under virtual time
	cargo build --quiet --profile sim --workspace --bin sim
	$${CARGO_TARGET_DIR:-target}/sim/sim $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000)) $(SIM_FLAGS)

sim-full: ## The same with HTTP/2, TLS and the embedded store on a disk that crashes tear
	$(MAKE) --no-print-directory sim SEEDS=$(or $(SEEDS),100) SEED=$(SEED) SIM_FLAGS="--full $(SIM_FLAGS)"

bench: ## Our rates beside a direct API client on the same engine, in the same run
	scripts/bench.sh

bench-hollow: ## Apply and roll 1,000 replicas on 100 simulated nodes, on both stores
	scripts/bench-hollow.sh

fuzz: ## Fuzz every parser for TIME=60 seconds each (TARGET=name: one of them); fails on a crash
	scripts/fuzz.sh

PROOF = cargo run --quiet --release -p drover-store --example proof --

store-proof: ## Kill the store at every step of disk and process, fail and fill its disk: nothing may be lost
	scripts/prepare.sh build
	$(PROOF) sweep $(STRIDE)
	$(PROOF) strace $(STRIDE)

histories: ## N client histories on each store and DELIVERIES watch events, checked; broken stores must be reported
	scripts/prepare.sh build
	$(PROOF) controls
	$(PROOF) histories embedded $(or $(N),1000)
	$(PROOF) histories etcd $(or $(ETCD_N),30)
	$(PROOF) deliveries $(or $(DELIVERIES),100000000)

growth: ## WRITES over a thousand keys: the store's file stays within three times the live data
	scripts/prepare.sh build
	$(PROOF) growth $(or $(WRITES),10000000)

restart: ## OBJECTS=100000 pods in the embedded store: how long a killed API server is away
	scripts/prepare.sh build
	cargo build --quiet --release --workspace --bins
	DROVER_BIN_DIR=$${CARGO_TARGET_DIR:-target}/release $${CARGO_TARGET_DIR:-target}/release/restart --objects $(or $(OBJECTS),100000)

up: build ## Run Drover on this host
	target/release/drover up
