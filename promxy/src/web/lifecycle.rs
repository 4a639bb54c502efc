//! Reload and quit, where `--web.enable-lifecycle` allows them.

use http::StatusCode;

use crate::{
    message::answer::{self, PLAIN, Response},
    state::State,
};

/// Reads the configuration again, and says so when that is done.
pub(super) async fn reload(state: &State) -> Response {
    if !state.flags.enable_lifecycle {
        return disabled();
    }
    match state.reload().await {
        Ok(()) => answer::empty(StatusCode::OK),
        Err(reason) => answer::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("failed to reload config: {reason}"),
        ),
    }
}

/// Has the process end as a signal does.
pub(super) fn quit(state: &State) -> Response {
    if !state.flags.enable_lifecycle {
        return disabled();
    }
    let text = if state.quit() {
        "Requesting termination... Goodbye!"
    } else {
        "Termination already in progress."
    };
    answer::whole(StatusCode::OK, PLAIN, text)
}

/// What those hear who only look.
pub(super) fn read() -> Response {
    answer::whole(
        StatusCode::METHOD_NOT_ALLOWED,
        PLAIN,
        "Only POST or PUT requests allowed",
    )
}

fn disabled() -> Response {
    answer::whole(
        StatusCode::FORBIDDEN,
        PLAIN,
        "Lifecycle API is not enabled.",
    )
}
