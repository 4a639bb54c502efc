//! The tasks of Marathon's apps, as Prometheus' `marathon_sd`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::Deserialize;

use super::{ADDRESS, Ask, Group, Labels, Publisher, Source, join, label_name, poll, put, request};
use crate::http::client::{Client, Credential};

/// How long one server may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// The largest answer that is read.
const LARGEST: usize = 256 << 20;

/// A Marathon cluster.
#[derive(Debug)]
pub struct Marathon {
    /// The URLs of its servers. They are asked one after the other, until one answers.
    pub servers: Vec<String>,
    /// How often.
    pub refresh: Duration,
    /// The token of DC/OS.
    pub auth_token: Option<Credential>,
    /// What they are asked with.
    pub client: Client,
}

impl Source for Marathon {
    const KIND: &'static str = "marathon";

    async fn follow(self, publisher: Publisher) {
        let first = 0;
        poll(
            &publisher,
            self.refresh,
            Asking {
                marathon: self,
                first,
            },
        )
        .await;
    }
}

/// The servers, and which of them is asked first: the one that answered last.
struct Asking {
    marathon: Marathon,
    first: usize,
}

impl Ask for Asking {
    async fn ask(&mut self) -> Result<Vec<Arc<Group>>, String> {
        let servers = &self.marathon.servers;
        let mut failure = String::new();
        for index in (0..servers.len()).map(|offset| (self.first + offset) % servers.len()) {
            match self.marathon.ask_one(&servers[index]).await {
                Ok(groups) => {
                    self.first = index;
                    return Ok(groups);
                }
                Err(reason) => failure = reason,
            }
        }
        Err(failure)
    }
}

impl Marathon {
    async fn ask_one(&self, server: &str) -> Result<Vec<Arc<Group>>, String> {
        let url = format!("{}/v2/apps/?embed=apps.tasks", server.trim_end_matches('/'));
        let token = self.auth_token.as_ref();
        let token = token.map(|token| token.read("auth token")).transpose();
        let token = token.map_err(|error| error.to_string())?;
        let token = token.map(|token| format!("token={}", token.reveal()));
        let headers = token.as_deref().map(|token| ("authorization", token));
        let headers: Vec<_> = headers.into_iter().collect();
        let reply = request::get(&self.client, &url, &headers, DEADLINE, LARGEST).await?;
        if !reply.status.is_success() {
            let status = reply.status.as_u16();
            return Err(format!(
                "non 2xx status '{status}' response during marathon service discovery"
            ));
        }
        groups(&reply.body).map_err(|error| format!("{url:?}: {error}"))
    }
}

#[derive(Deserialize)]
struct Apps {
    #[serde(default)]
    apps: Vec<App>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct App {
    id: String,
    tasks: Vec<Task>,
    labels: BTreeMap<String, String>,
    container: Container,
    port_definitions: Vec<PortDefinition>,
    networks: Vec<Network>,
    require_ports: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Task {
    id: String,
    host: String,
    ports: Vec<u32>,
    ip_addresses: Vec<IpAddress>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct IpAddress {
    ip_address: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    docker: Docker,
    port_mappings: Vec<PortMapping>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Docker {
    image: String,
    port_mappings: Vec<PortMapping>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PortMapping {
    labels: BTreeMap<String, String>,
    container_port: u32,
    host_port: u32,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PortDefinition {
    labels: BTreeMap<String, String>,
    port: u32,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Network {
    mode: String,
}

/// A port of an app: its number, or 0 where tasks say it, and its labels.
type Port<'a> = (u32, &'a BTreeMap<String, String>);

fn groups(body: &[u8]) -> Result<Vec<Arc<Group>>, serde_json::Error> {
    let mut apps: Apps = serde_json::from_slice(body)?;
    apps.apps.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(apps.apps.iter().map(|app| Arc::new(group(app))).collect())
}

fn group(app: &App) -> Group {
    let mut labels = Labels::new();
    put(&mut labels, "__meta_marathon_app", &app.id);
    put(
        &mut labels,
        "__meta_marathon_image",
        &app.container.docker.image,
    );
    for (name, value) in &app.labels {
        let name = format!("__meta_marathon_app_label_{}", label_name(name));
        put(&mut labels, name, value);
    }
    let (ports, kind) = ports(app);
    Group {
        source: app.id.clone(),
        targets: app
            .tasks
            .iter()
            .flat_map(|task| targets(app, task, &ports, kind))
            .collect(),
        labels,
    }
}

/// Finds where an app says its ports, which depends on its age. Without any, tasks have them.
fn ports(app: &App) -> (Vec<Port<'_>>, &'static str) {
    let mapped = |mappings: &'_ [PortMapping]| mappings.len();
    let mappings = if mapped(&app.container.port_mappings) > 0 {
        &app.container.port_mappings
    } else {
        &app.container.docker.port_mappings
    };
    if !mappings.is_empty() {
        let port = |mapping: &'_ PortMapping| {
            if is_container_net(app) {
                mapping.container_port
            } else {
                mapping.host_port
            }
        };
        let ports = mappings
            .iter()
            .map(|mapping| (port(mapping), &mapping.labels));
        return (ports.collect(), "port_mapping_label");
    }
    let ports = app.port_definitions.iter().map(|definition| {
        // Otherwise it is the port of the service, not the one that is listened on.
        let port = if app.require_ports {
            definition.port
        } else {
            0
        };
        (port, &definition.labels)
    });
    (ports.collect(), "port_definition_label")
}

fn is_container_net(app: &App) -> bool {
    app.networks
        .first()
        .is_some_and(|network| network.mode == "container")
}

fn targets(app: &App, task: &Task, ports: &[Port<'_>], kind: &str) -> Vec<Labels> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    let own: Vec<Port<'_>>;
    let ports = if ports.is_empty() {
        own = task.ports.iter().map(|port| (*port, &NONE)).collect();
        &own
    } else {
        ports
    };
    let host = match task.ip_addresses.first() {
        Some(address) if is_container_net(app) => &address.ip_address,
        _ => &task.host,
    };
    let targets = ports
        .iter()
        .enumerate()
        .map(|(index, (port, port_labels))| {
            let assigned = task
                .ports
                .get(index)
                .filter(|_| task.ports.len() == ports.len());
            let port = match (port, assigned) {
                (0, Some(assigned)) => assigned,
                (port, _) => port,
            };
            let mut target = Labels::new();
            put(&mut target, ADDRESS, join(host, port));
            put(&mut target, "__meta_marathon_task", &task.id);
            put(&mut target, "__meta_marathon_port_index", index.to_string());
            for (name, value) in *port_labels {
                let name = format!("__meta_marathon_{kind}_{}", label_name(name));
                put(&mut target, name, value);
            }
            target
        });
    targets.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn found(app: &Value) -> Vec<String> {
        let body = json!({"apps": [app]}).to_string();
        let groups = groups(body.as_bytes()).unwrap();
        groups[0]
            .targets
            .iter()
            .map(|target| target[ADDRESS].clone())
            .collect()
    }

    #[test]
    fn an_app_with_port_mappings_has_all_labels() {
        let app = json!({
            "id": "/prom", "labels": {"team.x": "a"},
            "container": {"docker": {"image": "img:1"}, "portMappings": [{"containerPort": 80, "hostPort": 0, "labels": {"web-ui": "yes"}}]},
            "tasks": [{"id": "t1", "host": "h1", "ports": [31000]}],
        });
        let body = json!({"apps": [app]}).to_string();
        let group = groups(body.as_bytes()).unwrap().remove(0);
        let expected = [
            ("__meta_marathon_app", "/prom"),
            ("__meta_marathon_app_label_team_x", "a"),
            ("__meta_marathon_image", "img:1"),
        ];
        let pairs =
            |labels: &Labels| -> Vec<(String, String)> { labels.clone().into_iter().collect() };
        let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect()
        };
        assert_eq!(pairs(&group.labels), owned(&expected));
        let expected = [
            (ADDRESS, "h1:31000"),
            ("__meta_marathon_port_index", "0"),
            ("__meta_marathon_port_mapping_label_web_ui", "yes"),
            ("__meta_marathon_task", "t1"),
        ];
        assert_eq!(pairs(&group.targets[0]), owned(&expected));
    }

    #[test]
    fn ports_are_where_the_networking_of_the_app_says() {
        let tasks = json!([{"id": "t", "host": "h", "ports": [31000, 31001], "ipAddresses": [{"ipAddress": "10.0.0.1"}]}]);
        let f = |mut app: Value, expected: &[&str]| {
            app["id"] = json!("/a");
            app["tasks"] = tasks.clone();
            assert_eq!(found(&app), expected);
        };
        // Host networking without definitions: what the task got.
        f(json!({}), &["h:31000", "h:31001"]);
        // Definitions that are not required are the service's ports.
        let definitions = json!([{"port": 1, "labels": {"a": "b"}}, {"port": 2}]);
        f(
            json!({"portDefinitions": definitions}),
            &["h:31000", "h:31001"],
        );
        f(
            json!({"portDefinitions": definitions, "requirePorts": true}),
            &["h:1", "h:2"],
        );
        // A network of containers: the container's port at its own address.
        let mappings = json!([{"containerPort": 80, "hostPort": 9}]);
        f(
            json!({"container": {"portMappings": mappings}, "networks": [{"mode": "container", "name": "n"}]}),
            &["10.0.0.1:80"],
        );
        // Before Marathon 1.5.
        f(
            json!({"container": {"docker": {"portMappings": mappings}}}),
            &["h:9"],
        );
    }
}
