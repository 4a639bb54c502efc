# Thin: each line is one command.
.PHONY: build test lint golden bench demo ci

build:  ; cargo build --release --workspace
test:   ; cargo test --workspace
lint:   ; cargo fmt --all --check && cargo clippy --workspace --all-targets --all-features -- -D warnings
golden: ; cargo test -p shared --features testing --test 'golden_*' -- --nocapture && cargo test -p statsd-proxy --test wire --test management --test cli -- --nocapture && cargo test -p polymur-proxy --test golden --test operators -- --nocapture
bench:  ; cargo bench --workspace
demo:   ; cargo run --release -p demo
ci:     ; bash .ci/run
