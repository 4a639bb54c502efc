//! Which port of a pod or service is a member's, and how the member's address is spelled.

/// Which port it is. Only TCP ports are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// The first one. A port without protocol counts as TCP, which is Kubernetes' default.
    First,
    /// The first one with this name or number. A number counts even where no such port is declared.
    Wanted(String),
    /// The last one, in the last container that has any; but a port with one of these names ends the search in its
    /// container. Here a port without protocol is not TCP. This is what the veneur proxies do.
    LastOrNamed(Vec<String>),
    /// The first one with this name, whatever is declared before or behind it; without one, as the other rule says.
    Named(String, Box<Port>),
}

/// A port that an object declares.
#[derive(Debug, Clone, Copy)]
pub(super) struct Declared<'a> {
    pub(super) number: i32,
    pub(super) name: Option<&'a str>,
    pub(super) protocol: Option<&'a str>,
}

/// The port that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chosen<'a> {
    pub(super) number: u16,
    pub(super) name: Option<&'a str>,
    /// The container that declares it, by its place among them.
    pub(super) container: Option<usize>,
}

/// What a member's address is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The address of the pod, as Kubernetes spells it.
    pub ip: &'a str,
    /// The port's number.
    pub port: u16,
    /// The port's name, if it has one.
    pub port_name: Option<&'a str>,
}

/// Spells an address `10.0.0.1:80`, and `[fd00::1]:80`.
pub fn host_port(place: &Place<'_>) -> String {
    let Place { ip, port, .. } = place;
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

/// Spells an address `http://10.0.0.1:80`.
pub fn http_url(place: &Place<'_>) -> String {
    format!("http://{}", host_port(place))
}

impl Port {
    /// Chooses among the ports of several containers, or of one service.
    pub(super) fn choose<'a>(
        &self,
        containers: impl IntoIterator<Item = impl IntoIterator<Item = Declared<'a>>> + Clone,
    ) -> Option<Chosen<'a>> {
        match self {
            Self::First => first(containers, |_| true),
            Self::Wanted(wanted) => {
                let number = wanted.parse::<u16>().ok();
                let is_it = |port: &Declared<'_>| {
                    port.name == Some(wanted) || number.is_some_and(|n| port.number == i32::from(n))
                };
                first(containers, is_it).or_else(|| {
                    number.map(|number| Chosen {
                        number,
                        name: None,
                        container: None,
                    })
                })
            }
            Self::LastOrNamed(names) => {
                let mut last = None;
                for (container, ports) in containers.into_iter().enumerate() {
                    for port in ports {
                        let named = port
                            .name
                            .is_some_and(|name| names.iter().any(|preferred| preferred == name));
                        if named || port.protocol == Some("TCP") {
                            last = port.chosen(container).or(last);
                        }
                        if named {
                            break;
                        }
                    }
                }
                last
            }
            Self::Named(wanted, otherwise) => {
                let is_it = |port: &Declared<'_>| port.name == Some(wanted);
                first(containers.clone(), is_it).or_else(|| otherwise.choose(containers))
            }
        }
    }
}

impl<'a> Declared<'a> {
    fn is_tcp(&self) -> bool {
        matches!(self.protocol, None | Some("" | "TCP"))
    }

    fn chosen(self, container: usize) -> Option<Chosen<'a>> {
        let number = u16::try_from(self.number)
            .ok()
            .filter(|number| *number > 0)?;
        Some(Chosen {
            number,
            name: self.name.filter(|name| !name.is_empty()),
            container: Some(container),
        })
    }
}

fn first<'a>(
    containers: impl IntoIterator<Item = impl IntoIterator<Item = Declared<'a>>>,
    is_it: impl Fn(&Declared<'_>) -> bool,
) -> Option<Chosen<'a>> {
    for (container, ports) in containers.into_iter().enumerate() {
        for port in ports {
            if port.is_tcp() && is_it(&port) {
                return port.chosen(container);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ports written `number/name/protocol`, several to a container, and what is chosen of them.
    fn chosen(port: &Port, containers: &[&[&'static str]]) -> Option<u16> {
        let declared = |text: &&'static str| {
            let mut parts = text.split('/');
            let mut part = || parts.next().filter(|part| !part.is_empty());
            Declared {
                number: part().unwrap().parse().unwrap(),
                name: part(),
                protocol: part(),
            }
        };
        let containers = containers.iter().map(|ports| ports.iter().map(declared));
        port.choose(containers).map(|chosen| chosen.number)
    }

    #[test]
    fn the_first_port_is_the_first_of_tcp() {
        let f = |containers: &[&[&'static str]], expected| {
            assert_eq!(chosen(&Port::First, containers), expected);
        };
        f(&[&["1/a/UDP", "2/b/TCP", "3/c/TCP"]], Some(2));
        f(&[&[], &["1/a"]], Some(1));
        f(&[&["1/a/SCTP"]], None);
        f(&[&["0/a/TCP", "70000/b/TCP"]], None);
        f(&[], None);
    }

    #[test]
    fn a_wanted_port_has_the_name_or_the_number_or_is_taken_on_faith() {
        let f = |wanted: &str, containers: &[&[&'static str]], expected| {
            let port = Port::Wanted(wanted.to_owned());
            assert_eq!(chosen(&port, containers), expected);
        };
        f("web", &[&["1/a/TCP"], &["2/web/UDP", "3/web/TCP"]], Some(3));
        f("2", &[&["1/2/TCP", "2/web/TCP"]], Some(1));
        f("2", &[&["1/web/TCP", "2/x/TCP"]], Some(2));
        f("9", &[&["1/web/TCP"]], Some(9));
        f("absent", &[&["1/web/TCP"]], None);
        f("70000", &[&["1/web/TCP"]], None);
    }

    #[test]
    fn the_last_port_wins_unless_a_name_ends_the_search() {
        let f = |containers: &[&[&'static str]], expected| {
            let port = Port::LastOrNamed(vec!["http".to_owned(), "grpc".to_owned()]);
            assert_eq!(chosen(&port, containers), expected);
        };
        f(&[&["1/a/TCP", "2/b/TCP"]], Some(2));
        f(&[&["1/a/TCP", "2/http/TCP", "3/c/TCP"]], Some(2));
        f(&[&["1/grpc/TCP", "2/http/TCP"]], Some(1));
        f(&[&["1/http/TCP"], &["2/side/TCP"]], Some(2));
        f(&[&["1/http/TCP"], &["2/side/UDP"]], Some(1));
        f(&[&["1/x"]], None);
        // A name is worth more than a protocol.
        f(&[&["1/http/UDP"]], Some(1));
    }

    #[test]
    fn a_named_port_is_found_wherever_it_stands() {
        let f = |containers: &[&[&'static str]], expected| {
            let otherwise = Port::LastOrNamed(vec!["http".to_owned()]);
            let port = Port::Named("grpc".to_owned(), Box::new(otherwise));
            assert_eq!(chosen(&port, containers), expected);
        };
        f(&[&["1/http/TCP", "2/grpc/TCP", "3/c/TCP"]], Some(2));
        f(&[&["1/grpc/TCP"], &["2/http/TCP"]], Some(1));
        f(&[&["1/grpc"], &["2/side/TCP"]], Some(1));
        // Without one, the other rule counts.
        f(&[&["1/http/TCP", "2/c/TCP"]], Some(1));
        f(&[&["1/grpc/UDP", "2/c/TCP"]], Some(2));
        f(&[&["1/x"]], None);
    }

    #[test]
    fn addresses_of_both_families_can_be_dialled() {
        let f = |ip, expected| {
            let place = Place {
                ip,
                port: 80,
                port_name: None,
            };
            assert_eq!(http_url(&place), expected);
        };
        f("10.0.0.1", "http://10.0.0.1:80");
        f("fd00::1", "http://[fd00::1]:80");
    }
}
