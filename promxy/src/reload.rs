//! Another configuration for the running program: read and checked whole, then put into force at once, or not at all.

use std::{sync::Arc, time::Duration};

use tracing::{error, info, warn};

use crate::{
    config::{self, Config},
    discovery::{Environment, check_client},
    query::Source,
    rules,
    servergroup::{Groups, PrepareError},
    state::{Live, State},
    telemetry::query_log::Opened,
};

/// What is said when a file makes sense and a part of it cannot be put into force; what it is was logged before.
pub const NOT_APPLIED: &str = "one or more errors occurred while applying new configuration";

impl State {
    /// Reads the configuration again. Whoever comes meanwhile waits. An error is the text that clients see; the old configuration
    /// stays in force.
    pub async fn reload(&self) -> Result<(), String> {
        let _alone = self.reloading.lock().await;
        info!("Reloading config");
        match self.apply().await {
            Ok(()) => {
                self.telemetry.reload.succeeded();
                Ok(())
            }
            Err(reason) => {
                self.telemetry.reload.failed();
                error!("Error reloading config: {reason}");
                Err(reason)
            }
        }
    }

    async fn apply(&self) -> Result<(), String> {
        let path = self.flags.config.clone();
        let loaded = tokio::task::spawn_blocking(move || config::load(&path)).await;
        let loaded = loaded.map_err(|_| "reading the configuration was broken off".to_owned())?;
        let loaded = loaded.map_err(|reason| format!("error loading cfg: {reason}"))?;
        for warning in &loaded.warnings {
            warn!("{warning}");
        }
        let config = loaded.config;
        let not_applied = |reason: String| {
            error!("failed to apply configuration: {reason}");
            NOT_APPLIED.to_owned()
        };
        let log = Opened::new(config.query_log_file.as_deref()).map_err(not_applied)?;
        let groups = self.groups.prepare(&config);
        let groups = groups.map_err(|error| not_applied(group_refused(&error)))?;
        let (checked, environment) = (config.clone(), self.environment.clone());
        let check = move || check_alerting(&checked, &environment);
        let checked = tokio::task::spawn_blocking(check).await;
        let checked = checked.unwrap_or_else(|_| Err("checking was broken off".to_owned()));
        checked.map_err(not_applied)?;
        // From here on nothing can fail.
        self.groups.switch(groups);
        self.queries.swap(source(&self.groups, &config));
        self.telemetry.engine.set_log(log.is_enabled());
        self.query_log.switch(log);
        self.live.store(Arc::new(Live { config }));
        Ok(())
    }
}

/// Checks what a configuration says of Alertmanagers and rules, though nothing of it has an effect yet. Reads the files that it
/// names, and blocks meanwhile. The error is the original's.
pub(crate) fn check_alerting(config: &Config, environment: &Environment) -> Result<(), String> {
    for client in &config.alertmanagers {
        check_client(client, environment)?;
    }
    let rules::Counts {
        alerting,
        recording,
    } = rules::load(config).map_err(|error| error.to_string())?;
    if alerting > 0 && !config.has_remote_write {
        warn!("Alerting rules are configured but no remote_write endpoint is configured.");
    }
    if alerting + recording > 0 {
        warn!(
            alerting,
            recording, "rules are not evaluated by this version"
        );
    }
    if !config.alertmanagers.is_empty() {
        warn!("alertmanagers are not notified by this version");
    }
    if config.has_remote_write {
        warn!("nothing is written by remote_write in this version");
    }
    Ok(())
}

/// Logs why a group cannot be made, and returns what that means for the whole.
pub(crate) fn group_refused(error: &PrepareError) -> String {
    let PrepareError { ordinal, reason } = error;
    error!("Error applying config to server group ({ordinal}): {reason}");
    "error applying config to one or more server group(s)".to_owned()
}

/// Returns whom queries ask under a configuration.
pub(crate) fn source(groups: &Groups, config: &Config) -> Source {
    Source {
        upstream: Arc::new(groups.clone()),
        groups: config.groups,
        default_step: Duration::from_millis(
            u64::try_from(config.evaluation_interval_ms).unwrap_or(60_000),
        ),
    }
}
