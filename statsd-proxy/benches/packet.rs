//! The data path without a network: datagrams through a relay to nodes whose lanes are closed or queues.

fn main() {
    divan::main();
}
