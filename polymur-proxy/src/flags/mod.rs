//! The command line and the environment: the original's ten flags with its defaults, and ours.
//!
//! [`Flags`] is what was typed, as values of the right kind; [`crate::config`] says what it means. Values come from the
//! built-in defaults, then from `POLYMUR_PROXY_*`, then from the words, the last of which wins.

mod go;

use go::{Flag, Kind, Values, usage};

pub use self::go::Refusal;

/// What the names of environment variables begin with.
const PREFIX: &str = "POLYMUR_PROXY_";

/// Declares all flags: the table that the usage page shows, and the struct that holds their values.
macro_rules! flags {
    ($($field:ident: $kind:ident $name:literal $default:literal $help:literal;)+) => {
        const TABLE: &[Flag] = &[$(Flag { name: $name, kind: Kind::$kind, default: $default, help: $help },)+];

        /// What was typed, or set, or left at its default.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Flags {
            $(#[doc = $help] pub $field: flags!(@type $kind),)+
        }

        impl Flags {
            fn from_values(values: &Values<'_>) -> Self {
                Self { $($field: flags!(@value $kind values $name),)+ }
            }
        }
    };
    (@type Bool) => { bool };
    (@type Int) => { i64 };
    (@type Duration) => { i64 };
    (@type Text) => { String };
    (@value Bool $values:ident $name:literal) => { $values.bool($name) };
    (@value Int $values:ident $name:literal) => { $values.int($name) };
    (@value Duration $values:ident $name:literal) => { $values.nanos($name) };
    (@value Text $values:ident $name:literal) => { $values.text($name).to_owned() };
}

flags! {
    // The original's.
    api_key: Text "api-key" "" "polymur gateway API key";
    cert: Text "cert" "" "TLS Certificate";
    console_out: Bool "console-out" "false" "Dump output to console";
    gateway: Text "gateway" "" "polymur gateway address";
    listen_addr: Text "listen-addr" "0.0.0.0:2003" "Polymur-proxy listen address";
    metrics_flush: Int "metrics-flush" "0" "Graphite flush interval for runtime metrics (0 is disabled)";
    queue_cap: Int "queue-cap" "32768" "In-flight message queue capacity (number of data point batches [5000 points max per batch])";
    stat_addr: Text "stat-addr" "localhost:2020" "runstats listen address";
    verbose: Bool "verbose" "true" "Log verbosity";
    workers: Int "workers" "3" "HTTP output workers";
    // Delivery.
    api_key_file: Text "api-key-file" "" "File that holds the API key; read again on SIGHUP";
    client_cert: Text "client-cert" "" "PEM file of the client certificate shown to the gateway";
    client_key: Text "client-key" "" "PEM file of the client certificate's private key";
    http_timeout: Duration "http-timeout" "30s" "Limit of one request to the gateway, from connecting to the end of its answer";
    key_hold: Duration "key-hold" "60s" "How long batches are kept and retried while the gateway refuses the API key (401); it learns new keys within 30s";
    retry_for: Duration "retry-for" "1h" "How long a batch is retried that the gateway answers with 408, 425, 429 or 5xx (0 is for ever)";
    start_anyway: Bool "start-anyway" "false" "Start although the gateway does not answer the first ping with 200";
    drain_timeout: Duration "drain-timeout" "10s" "Limit of the delivery of what is queued when the process is asked to end";
    // Memory and disk.
    queue_bytes: Int "queue-bytes" "268435456" "Bytes of compressed batches that may wait in memory; lines on their way there may take a quarter of it besides";
    on_full: Text "on-full" "block" "What happens to new batches when memory and spool are full: block (senders wait) or drop-oldest";
    spool_dir: Text "spool-dir" "" "Directory where batches wait while the gateway is away; they survive a restart";
    spool_max_bytes: Int "spool-max-bytes" "1073741824" "Bytes that the spool may take";
    spool_sync: Duration "spool-sync" "100ms" "Longest time between a batch's arrival in the spool and its fsync (0s is fsync before it counts as taken)";
    // Inputs.
    udp_addr: Text "udp-addr" "" "UDP listen address for plaintext lines";
    pickle_addr: Text "pickle-addr" "" "TCP listen address for the Graphite pickle protocol";
    listen_cert: Text "listen-cert" "" "PEM file of the certificate for TLS on listen-addr";
    listen_key: Text "listen-key" "" "PEM file of the private key for TLS on listen-addr";
    validate: Bool "validate" "false" "Drop lines that no carbon would take, and count them";
    merge_connections: Bool "merge-connections" "false" "Let connections share batches, sent when full or after a second";
    // Operations.
    metrics_addr: Text "metrics-addr" "" "HTTP listen address for /metrics and /healthz";
}

/// What the command line asks for, and what the log should say about the environment.
#[derive(Debug)]
pub struct Parsed {
    /// The values.
    pub flags: Flags,
    /// Variables that were set to what their flag does not take, one sentence each.
    pub ignored: Vec<String>,
}

impl Flags {
    /// Reads the environment and then the words after the program's name.
    pub fn parse(
        words: impl IntoIterator<Item = String>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Parsed, Refusal> {
        let mut values = Values::defaults(TABLE);
        let ignored = values.take_environment(PREFIX, variable);
        values.take_words(words)?;
        Ok(Parsed {
            flags: Self::from_values(&values),
            ignored,
        })
    }

    /// Returns the built-in defaults.
    pub fn defaults() -> Self {
        Self::from_values(&Values::defaults(TABLE))
    }
}

/// Returns the usage page.
pub fn usage_page(program: &str) -> String {
    usage(program, PREFIX, TABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str], environment: &[(&str, &str)]) -> Result<Parsed, Refusal> {
        let variable = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Flags::parse(words.iter().map(|word| (*word).to_owned()), variable)
    }

    #[test]
    fn a_flag_beats_the_environment_which_beats_the_default() {
        let f = |words: &[&str], environment: &[(&str, &str)], workers: i64| {
            let parsed = parse(words, environment).unwrap();
            assert_eq!(parsed.flags.workers, workers, "{words:?} {environment:?}");
        };
        f(&[], &[], 3);
        f(&[], &[("POLYMUR_PROXY_WORKERS", "7")], 7);
        f(&[], &[("POLYMUR_PROXY_WORKERS", "")], 3);
        f(&[], &[("polymur_proxy_workers", "7")], 3);
        f(&["-workers=2"], &[("POLYMUR_PROXY_WORKERS", "7")], 2);
        f(&["--workers", "2", "-workers", "0x4"], &[], 4);
        f(&["word", "-workers=2"], &[], 3);
        f(&["--", "-workers=2"], &[], 3);
    }

    #[test]
    fn a_variable_that_does_not_parse_is_ignored_and_named() {
        let parsed = parse(&[], &[("POLYMUR_PROXY_WORKERS", "abc")]).unwrap();
        assert_eq!(parsed.flags.workers, 3);
        assert_eq!(
            parsed.ignored,
            ["POLYMUR_PROXY_WORKERS=\"abc\" is not a whole number and is ignored"]
        );
    }

    #[test]
    fn a_switch_takes_its_value_only_after_an_equals_sign() {
        assert!(parse(&["-verbose", "false"], &[]).unwrap().flags.verbose);
        assert!(!parse(&["-verbose=F"], &[]).unwrap().flags.verbose);
    }

    #[test]
    fn bad_words_are_refused_in_the_words_of_go() {
        let f = |word: &str, text: &str| {
            assert_eq!(
                parse(&[word], &[]).unwrap_err(),
                Refusal::Usage(text.to_owned())
            );
        };
        f("-bogus", "flag provided but not defined: -bogus");
        f("---workers=1", "bad flag syntax: ---workers=1");
        f("-=x", "bad flag syntax: -=x");
        f("-workers", "flag needs an argument: -workers");
        f(
            "-http-timeout=3",
            "invalid value \"3\" for flag -http-timeout: parse error",
        );
        f(
            "-verbose=maybe",
            "invalid boolean value \"maybe\" for -verbose: parse error",
        );
        assert_eq!(parse(&["-h"], &[]).unwrap_err(), Refusal::Help);
    }
}
