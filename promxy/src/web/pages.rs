//! Pages for people and for those who watch processes.

use http::{HeaderMap, Method, StatusCode, header::ACCEPT};

use crate::{
    build_info,
    message::answer::{self, HTML, PLAIN, Response},
    state::State,
};

/// The page behind every path of the user interface, until there is one.
const PAGE: &str = include_str!("page.html");
const ICON: &str = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><path fill="#c63" d="M8 1l7 7-7 7-7-7z"/></svg>"##;

/// A page of the user interface.
pub(super) fn page(state: &State) -> Response {
    let page = PAGE
        .replace("{prefix}", &state.settings.external_path)
        .replace("{version}", build_info::VERSION);
    answer::whole(StatusCode::OK, HTML, page)
}

pub(super) fn icon() -> Response {
    answer::whole(StatusCode::OK, "image/svg+xml", ICON)
}

/// The way to the first page.
pub(super) fn root(state: &State, method: &Method) -> Response {
    let location = format!("{}/query", state.settings.external_path);
    answer::redirect(method, StatusCode::FOUND, &location)
}

/// Links in alerts lead here.
pub(super) fn graph(state: &State, method: &Method, query: &str) -> Response {
    let location = format!("{}/query?{query}", state.settings.external_path);
    answer::redirect(method, StatusCode::FOUND, &location)
}

pub(super) fn version() -> Response {
    let text = format!("{}\n", build_info::json());
    answer::whole(StatusCode::OK, PLAIN, text)
}

pub(super) fn healthy() -> Response {
    answer::whole(StatusCode::OK, PLAIN, "Promxy is Healthy.\n")
}

/// Whether queries are answered; if not, why.
pub(super) fn ready(state: &State) -> Response {
    let unavailable = |text: String| answer::whole(StatusCode::SERVICE_UNAVAILABLE, PLAIN, text);
    if state.is_stopping() {
        return unavailable("Promxy is Stopping.\n".to_owned());
    }
    match state.not_ready() {
        Some(reason) => unavailable(format!("Promxy is not Ready: {reason}\n")),
        None => answer::whole(StatusCode::OK, PLAIN, "Promxy is Ready.\n"),
    }
}

/// The metrics, in the form that a scraper accepts.
pub(super) fn metrics(state: &State, headers: &HeaderMap) -> Response {
    let is_ready = state.not_ready().is_none() && !state.is_stopping();
    let accepted = headers.get_all(ACCEPT).iter();
    let accepted: Vec<&str> = accepted.filter_map(|value| value.to_str().ok()).collect();
    match state.telemetry.scraped(is_ready, &accepted.join(",")) {
        Ok((kind, page)) => answer::whole(StatusCode::OK, kind, page),
        Err(reason) => answer::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("cannot print metrics: {reason}"),
        ),
    }
}

/// Go's profiles, which a program that is not written in Go does not have.
pub(super) fn debug() -> Response {
    answer::error(
        StatusCode::NOT_FOUND,
        "there are no profiles: this program is not written in Go. CPU time, memory and descriptors are among its metrics",
    )
}
