//! `-where`: which nodes names belong to, as the configuration alone says, whatever the nodes' health.

use std::{io, sync::Arc};

use crate::{
    config::{Config, NodeConfig},
    counters::Totals,
    node::Node,
    routing::{Destination, Route},
};

/// Places names on the nodes of a configuration.
#[derive(Debug)]
pub struct Placement {
    destinations: Vec<Destination>,
    routes: Vec<Route>,
}

impl Placement {
    /// Takes all nodes for live.
    pub fn new(config: &Config) -> Self {
        let totals = Arc::<Totals>::default();
        let nodes: Vec<&NodeConfig> = config
            .groups
            .iter()
            .flat_map(|group| &group.nodes)
            .collect();
        let destination = |config: &NodeConfig| {
            let (node, _backlog) = Node::new(config.clone(), 0, Arc::clone(&totals));
            Destination {
                node: Arc::new(node),
                address: None,
                live: true,
            }
        };
        let destinations: Vec<Destination> = nodes.iter().copied().map(destination).collect();
        let mut first = 0;
        let routes = config.groups.iter().map(|group| {
            let places: Vec<usize> = (first..first + group.nodes.len()).collect();
            first += group.nodes.len();
            Route::new(group.name.clone(), group.spread, &places, &destinations)
        });
        let routes = routes.collect();
        Self {
            destinations,
            routes,
        }
    }

    /// Returns the labels of the nodes that `name` goes to, group by group.
    pub fn nodes(&self, name: &[u8]) -> Vec<&str> {
        let mut labels = Vec::new();
        for route in &self.routes {
            route.each_destination(name, |destination| {
                labels.push(self.destinations[destination].node.label())
            });
        }
        labels
    }

    /// Writes one line per name: the name, a tab, and its nodes with a comma between them.
    pub fn print(
        &self,
        names: impl IntoIterator<Item = io::Result<String>>,
        out: &mut impl io::Write,
    ) -> io::Result<()> {
        for name in names {
            let name = name?;
            writeln!(out, "{name}\t{}", self.nodes(name.as_bytes()).join(","))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Dialect, parse};

    #[test]
    fn every_group_has_its_say() {
        let text = r#"{"nodes": [{"host": "a", "port": 1}, {"host": "b", "port": 2}],
            "groups": [{"mirror": true, "nodes": [{"host": "c", "port": 3}, {"host": "d", "port": 4}]}]}"#;
        let placement = Placement::new(&parse(text, Dialect::GoStatsdProxy, None).unwrap().config);
        let mut out = Vec::new();
        placement
            .print([Ok("gorets".to_owned())], &mut out)
            .unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(
            out == "gorets\ta:1,c:3,d:4\n" || out == "gorets\tb:2,c:3,d:4\n",
            "{out}"
        );
    }
}
