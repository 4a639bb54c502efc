//! Which program this is.

use crate::api::json;

/// The version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What `/version` and `/api/v1/status/buildinfo` say. The keys are Prometheus'.
pub fn json() -> String {
    let version = json::quoted(VERSION);
    format!(
        r#"{{"version":{version},"revision":"","branch":"","buildUser":"","buildDate":"","goVersion":""}}"#
    )
}

/// What `--version` prints, in the original's form.
pub fn text() -> String {
    format!(
        "promxy, version {VERSION} (branch: , revision: unknown)\n  build user:       \n  build date:       \n  go version:       \n  platform:         {}/{}\n  tags:             unknown\n",
        std::env::consts::OS,
        platform()
    )
}

/// The processor, as Go calls it.
pub(crate) fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
