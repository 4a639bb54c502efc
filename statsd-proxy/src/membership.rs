//! The one owner of the nodes: who belongs to the configuration, where each is reached, which of them live.
//!
//! Health checks, lookups and reloads arrive as [`Event`]s; each that changes anything publishes a new [`Routing`]
//! snapshot. Nobody else changes nodes or routing.

use std::{
    net::IpAddr, net::SocketAddr, sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration,
};

use shared::lifecycle::Tasks;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    config::{Config, Dialect, NodeConfig, Protocol, RingKind, Spread},
    counters::Totals,
    health,
    node::Node,
    output::tcp::Writer,
    relay::SharedRouting,
    resolve::{self, Resolver},
    routing::{Destination, Route, Routing},
};

/// Events that may wait. When they are full, those who report them wait.
const WAITING_EVENTS: usize = 64;
/// How long start-up waits for the first answers of the resolver.
const FIRST_LOOKUPS: Duration = Duration::from_secs(2);

/// Something that may change the routing.
#[derive(Debug)]
pub(crate) enum Event {
    /// A name was looked up; without an address, it has never resolved.
    Resolved {
        node: Arc<Node>,
        address: Option<SocketAddr>,
    },
    /// A health check drew a conclusion.
    Checked { node: Arc<Node>, up: bool },
    /// The configuration has changed.
    Reload(Box<Config>),
}

/// What membership needs from the rest of the process.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) routing: SharedRouting,
    pub(crate) totals: Arc<Totals>,
    pub(crate) resolver: Resolver,
    /// Checks and lookups run here.
    pub(crate) watchers: Tasks,
    /// Writers of TCP nodes run here, until their queues are empty.
    pub(crate) writers: Tasks,
    /// Tells writers that the drain deadline has come.
    pub(crate) give_up: CancellationToken,
}

/// The nodes and what is known of them.
#[derive(Debug)]
pub(crate) struct Membership {
    config: Config,
    members: Vec<Member>,
    /// Counts nodes that came back: each goes to the end of its ring's order.
    returns: u64,
    surroundings: Surroundings,
    reporter: mpsc::Sender<Event>,
    events: mpsc::Receiver<Event>,
}

#[derive(Debug)]
struct Member {
    node: Arc<Node>,
    address: Option<SocketAddr>,
    /// Whether its name is still to be looked up for the first time.
    lookup_pending: bool,
    /// Whether a health check has ever drawn a conclusion.
    checked: bool,
    /// 0, or when it came back.
    returned: u64,
    /// Its own checks and lookups.
    watchers: Tasks,
}

impl Membership {
    /// Takes up `config`: starts checks, lookups and writers, waits a moment for the first lookups, and publishes.
    pub(crate) async fn start(config: Config, surroundings: Surroundings) -> Self {
        let (reporter, events) = mpsc::channel(WAITING_EVENTS);
        let mut membership = Self {
            config,
            members: Vec::new(),
            returns: 0,
            surroundings,
            reporter,
            events,
        };
        membership.meet_nodes();
        let deadline = Instant::now() + FIRST_LOOKUPS;
        while membership
            .members
            .iter()
            .any(|member| member.lookup_pending)
        {
            let Ok(Some(event)) = timeout_at(deadline, membership.events.recv()).await else {
                break;
            };
            membership.handle(event);
        }
        membership.publish();
        membership.announce();
        membership
    }

    /// Returns a sender for events.
    pub(crate) fn reporter(&self) -> mpsc::Sender<Event> {
        self.reporter.clone()
    }

    /// Handles events until `stop`. Then lets go of all nodes, so that writers end once their queues are empty.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                event = self.events.recv() => match event {
                    Some(event) => self.handle(event),
                    None => break,
                },
            }
        }
        self.members
            .iter()
            .for_each(|member| member.watchers.stop());
        self.surroundings.routing.store(Arc::new(Routing::empty(
            self.config.grammar,
            self.config.packing,
        )));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Resolved { node, address } => self.set_address(&node, address),
            Event::Checked { node, up } => self.set_health(&node, up),
            Event::Reload(config) => self.reload(*config),
        }
    }

    fn set_address(&mut self, node: &Arc<Node>, address: Option<SocketAddr>) {
        let Some(member) = self
            .members
            .iter_mut()
            .find(|member| Arc::ptr_eq(&member.node, node))
        else {
            return;
        };
        member.lookup_pending = false;
        if member.address != address {
            info!(node = node.label(), ?address, "resolved the node's name");
            member.address = address;
            self.publish();
        }
    }

    fn set_health(&mut self, node: &Arc<Node>, up: bool) {
        let Some(member) = self
            .members
            .iter_mut()
            .find(|member| Arc::ptr_eq(&member.node, node))
        else {
            return;
        };
        let first = !std::mem::replace(&mut member.checked, true);
        if node.up.swap(up, Relaxed) == up {
            return;
        }
        if up {
            self.returns += 1;
            member.returned = self.returns;
        }
        let label = node.label();
        match (self.config.dialect, up) {
            (Dialect::Statsd, true) => info!("Adding node {label} to the ring."),
            (Dialect::Statsd, false) => info!("Removing node {label} from the ring."),
            (Dialect::GoStatsdProxy, true) => info!(node = label, "node is up"),
            (Dialect::GoStatsdProxy, false) if first => {
                error!(
                    "Error adding backend to hash ring: Backend {label} doesn't seem to be alive."
                );
            }
            (Dialect::GoStatsdProxy, false) => warn!(node = label, "node is down"),
        }
        if self.members.iter().all(|member| !member.node.is_up()) {
            match self.config.dialect {
                Dialect::Statsd => warn!("Warning: No backend statsd nodes available!"),
                Dialect::GoStatsdProxy => {
                    warn!("no node is up; lines go to all nodes as if all were")
                }
            }
        }
        self.publish();
    }

    fn reload(&mut self, config: Config) {
        let rechecked = config.checks != self.config.checks;
        self.config = config;
        if rechecked {
            for index in 0..self.members.len() {
                let watchers = self.watch(&self.members[index].node);
                std::mem::replace(&mut self.members[index].watchers, watchers).stop();
            }
        }
        self.meet_nodes();
        self.publish();
        self.announce();
    }

    /// Starts what new nodes need, and lets go of nodes that have left the configuration.
    ///
    /// A node that stays as configured stays the same node, with its counts, its health and its queue.
    fn meet_nodes(&mut self) {
        let wanted: Vec<NodeConfig> = self
            .config
            .groups
            .iter()
            .flat_map(|group| &group.nodes)
            .cloned()
            .collect();
        self.members.retain(|member| {
            let stays = wanted.contains(&member.node.config);
            if !stays {
                member.watchers.stop();
            }
            stays
        });
        for config in wanted {
            if self
                .members
                .iter()
                .all(|member| member.node.config != config)
            {
                let member = self.admit(config);
                self.members.push(member);
            }
        }
    }

    fn admit(&self, config: NodeConfig) -> Member {
        let Surroundings {
            totals,
            writers,
            give_up,
            ..
        } = &self.surroundings;
        let (node, backlog) = Node::new(config, self.config.queue_bytes, Arc::clone(totals));
        let node = Arc::new(node);
        if let Some(backlog) = backlog {
            let writer = Writer {
                node: node.config.clone(),
                backlog,
                deliveries: Arc::clone(&node.deliveries),
                give_up: give_up.clone(),
            };
            writers.spawn("node writer", writer.run());
        }
        if node.config.management_port.is_none() {
            info!(
                "no management port on backend {}, checks will be skipped",
                node.config.host
            );
        }
        let address = literal_address(&node.config);
        let lookup_pending = needs_lookup(&node.config);
        let watchers = self.watch(&node);
        Member {
            node,
            address,
            lookup_pending,
            checked: false,
            returned: 0,
            watchers,
        }
    }

    /// Starts a node's checks and lookups.
    fn watch(&self, node: &Arc<Node>) -> Tasks {
        let tasks = self.surroundings.watchers.child();
        if let Some(port) = node.config.management_port {
            let Config {
                dialect, checks, ..
            } = self.config;
            self.watch_with(
                "health check",
                &tasks,
                health::follow(Arc::clone(node), port, dialect, checks, self.reporter()),
            );
        }
        if needs_lookup(&node.config) {
            let resolver = self.surroundings.resolver.clone();
            self.watch_with(
                "name lookup",
                &tasks,
                resolve::follow(Arc::clone(node), resolver, self.reporter()),
            );
        }
        tasks
    }

    /// The task counts in the group of all watchers, and ends with the node's own.
    fn watch_with(
        &self,
        name: &'static str,
        of_node: &Tasks,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let stop = of_node.stop_token();
        self.surroundings.watchers.spawn(name, async move {
            stop.run_until_cancelled(task).await;
        });
    }

    fn publish(&self) {
        let destinations: Vec<Destination> = self.members.iter().map(Member::destination).collect();
        let place = |config: &NodeConfig| {
            self.members
                .iter()
                .position(|member| member.node.config == *config)
        };
        let routes = self.config.groups.iter().map(|group| {
            let mut nodes: Vec<usize> = group.nodes.iter().filter_map(place).collect();
            if group.spread != Spread::Mirror {
                nodes.sort_by_key(|node| self.members[*node].returned);
            }
            Route::new(group.name.clone(), group.spread, &nodes, &destinations)
        });
        let groups = routes.collect();
        let Config {
            grammar, packing, ..
        } = self.config;
        self.surroundings.routing.store(Arc::new(Routing {
            grammar,
            packing,
            destinations,
            groups,
        }));
    }

    /// Says which ring is in use and how it shares the lines.
    fn announce(&self) {
        let routing = self.surroundings.routing.load();
        for line in routing.describe() {
            info!("{line}");
        }
        for route in &routing.groups {
            if route.spread == Spread::Hash(RingKind::GoStatsdProxy) && route.members.len() > 2 {
                let used: Vec<&str> = route
                    .shares()
                    .into_iter()
                    .filter(|(_, share)| *share > 0.0)
                    .map(|(member, _)| routing.destinations[member].node.label())
                    .collect();
                warn!(
                    group = route.name,
                    used = used.join(", "),
                    "the ring go-statsd-proxy sends everything to two nodes; ring: statsd uses all of them"
                );
            }
        }
    }
}

impl Member {
    fn destination(&self) -> Destination {
        let reachable = self.node.config.protocol == Protocol::Tcp || self.address.is_some();
        Destination {
            node: Arc::clone(&self.node),
            address: self.address,
            live: reachable && self.node.is_up(),
        }
    }
}

fn literal_address(node: &NodeConfig) -> Option<SocketAddr> {
    let ip: IpAddr = node.host.parse().ok()?;
    (node.protocol == Protocol::Udp).then_some(SocketAddr::new(ip, node.port))
}

/// TCP writers look names up by themselves, whenever they connect.
fn needs_lookup(node: &NodeConfig) -> bool {
    node.protocol == Protocol::Udp && node.host.parse::<IpAddr>().is_err()
}
