//! The three servers of the recordings, each on a port of its own, and the names of both worlds.

use std::ops::{Deref, DerefMut};

use super::{
    Mpp,
    prometheus::{Manners, Prometheus},
};

/// The servers b1, b2 and b3, recorded on ports 24001 to 24003.
pub(crate) struct Trio([Prometheus; 3]);

impl Trio {
    /// As recorded unless a scenario says otherwise: b2 has the most samples, then b3.
    #[track_caller]
    pub(crate) fn usual() -> Self {
        Self::with(["100", "3000", "200"].map(Manners::good))
    }

    #[track_caller]
    pub(crate) fn with(manners: [Manners; 3]) -> Self {
        let mut names = ["b1", "b2", "b3"].into_iter();
        Self(manners.map(|manners| Prometheus::start(names.next().unwrap(), manners)))
    }

    /// An endpoints file that names all of them.
    pub(crate) fn endpoints(&self) -> String {
        self.iter().map(|server| server.url() + "\n").collect()
    }

    /// Starts mpp before all of them, and waits until it knows that they answer.
    #[track_caller]
    pub(crate) fn front(&self, args: &[&str]) -> Mpp {
        let mpp = Mpp::start(&self.endpoints(), args);
        mpp.wait_until_answering(3);
        mpp
    }

    /// Puts our ports in the place of the recorded ones.
    pub(crate) fn real(&self, text: &str) -> String {
        self.ports()
            .fold(text.to_owned(), |text, (recorded, ours)| {
                text.replace(&recorded, &ours)
            })
    }

    /// Puts the recorded ports in the place of ours.
    pub(crate) fn recorded(&self, text: &str) -> String {
        self.ports()
            .fold(text.to_owned(), |text, (recorded, ours)| {
                text.replace(&ours, &recorded)
            })
    }

    /// The number in the server's name, 0 for what is not its address.
    pub(crate) fn number(&self, address: &str) -> usize {
        self.iter()
            .position(|server| server.url() == address)
            .map_or(0, |place| place + 1)
    }

    fn ports(&self) -> impl Iterator<Item = (String, String)> {
        self.iter()
            .enumerate()
            .map(|(place, server)| (format!(":2400{}", place + 1), format!(":{}", server.port)))
    }
}

impl Deref for Trio {
    type Target = [Prometheus; 3];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Trio {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}
