//! `/debug/pprof/`: what a program without Go's runtime can say there.
//!
//! The index, the command line and the page about symbols are served. A profile of Go's runtime (heap, goroutines, its CPU
//! profile) cannot be had from a program that has no such runtime: it is refused as Go refuses a profile that it does not know.

use http::{HeaderValue, StatusCode, header};

use crate::serve::{self, Answer};

/// Answers for a page below `/debug/pprof/`.
pub(super) fn profile(name: &str) -> Answer {
    match name {
        "" => nosniff(serve::page(
            HeaderValue::from_static("text/html; charset=utf-8"),
            INDEX,
        )),
        "cmdline" => {
            let words: Vec<String> = std::env::args_os()
                .map(|word| word.to_string_lossy().into_owned())
                .collect();
            nosniff(serve::text(words.join("\0")))
        }
        "symbol" => nosniff(serve::text("num_symbols: 0\n")),
        _ => {
            let mut answer = serve::error(StatusCode::NOT_FOUND, "Unknown profile");
            answer
                .headers_mut()
                .insert("x-go-pprof", HeaderValue::from_static("1"));
            answer
        }
    }
}

/// Sends who forgot the slash on.
pub(super) fn moved() -> Answer {
    let mut answer = serve::page(
        HeaderValue::from_static("text/html; charset=utf-8"),
        "<a href=\"/debug/pprof/\">Moved Permanently</a>.\n\n",
    );
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    answer
        .headers_mut()
        .insert(header::LOCATION, HeaderValue::from_static("/debug/pprof/"));
    answer
}

fn nosniff(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}

const INDEX: &str = "<html>
<head><title>/debug/pprof/</title></head>
<body>
<p>This program is not written in Go and has no profiles of Go's runtime.</p>
<ul>
<li><a href=\"cmdline\">cmdline</a>: the command line</li>
<li><a href=\"symbol\">symbol</a>: how many symbols can be looked up here: none</li>
</ul>
</body>
</html>
";
