//! Where the members of a set come from besides the configuration: Consul (spec section 10).

use std::{sync::Arc, time::Duration};

use shared::{
    discovery::{
        self, Discovery, Empty, Error, Plan, Refresh, Schedule,
        consul::{Asking, Consul, Service, Settings},
    },
    lifecycle::Tasks,
};

use super::StartError;
use crate::{
    config::{Config, Generation},
    observe::{Event, Observer},
};

/// How requests to Consul name their sender, as recorded from all generations.
const USER_AGENT: &str = "Go-http-client/1.1";

/// A running source.
pub(super) type Found = Discovery;

/// Starts to ask for the members of `service`.
pub(super) fn start(
    tasks: &Tasks,
    config: &Config,
    variable: &(dyn Fn(&str) -> Option<String> + Sync),
    metrics: &discovery::Metrics,
    service: &str,
    observer: &Arc<dyn Observer>,
) -> Result<Found, StartError> {
    let broken = |reason: &dyn std::fmt::Display| StartError::Discovery(reason.to_string());
    let settings =
        Settings::from_variables(USER_AGENT, variable).map_err(|reason| broken(&reason))?;
    let asked = Service {
        name: service.to_owned(),
        datacenter: None,
    };
    let (asking, schedule) = asking(config);
    let consul = Consul::new(&settings, asked, asking).map_err(|reason| broken(&reason))?;
    let plan = Plan {
        schedule,
        // The original waits for ever, and so does its next refresh.
        deadline: config.discovery_interval,
        empty: Empty::Fails,
    };
    let report = report(service.to_owned(), config.generation, Arc::clone(observer));
    Ok(Discovery::start(
        tasks, metrics, service, plan, consul, report,
    ))
}

fn asking(config: &Config) -> (Asking, Schedule) {
    let interval: Duration = config.discovery_interval;
    match config.outbound.consul_blocking_wait {
        None => (Asking::Polling, Schedule::Every(interval)),
        Some(wait) => (
            Asking::Blocking { wait },
            Schedule::LongPoll { retry: interval },
        ),
    }
}

/// Makes an event of every finished look-up.
fn report(
    service: String,
    generation: Generation,
    observer: Arc<dyn Observer>,
) -> impl FnMut(Refresh<'_>) + Send + 'static {
    move |refresh| {
        let found: Result<Vec<&str>, String> = match refresh.result {
            Ok(snapshot) => Ok(snapshot.addresses().collect()),
            // In the originals' words.
            Err(Error::Empty) if generation == Generation::Stream => {
                Err("received no hosts from Consul".to_owned())
            }
            Err(Error::Empty) => Err("Received no hosts from Consul".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        observer.event(&Event::Discovered {
            service: &service,
            took: refresh.took,
            result: found.as_deref().map_err(String::as_str),
        });
    }
}
