//! The HTTP client on the wire: authentication, headers, redirects, proxies, connections.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

#[path = "support/recorder.rs"]
mod recorder;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use shared::{
    config::secret::Secret,
    http::client::{
        Authentication, Credential, Idle, Kind, Redirects, Settings, Versions, oauth2, proxy, sigv4,
    },
    testing::{PATIENCE, wire::free_tcp_port},
    tls::client::Settings as Tls,
};
use tokio::time::{Instant, sleep};

use self::recorder::{Answer, Recorder, client, ok, post, tunnelling_proxy};

fn inline(text: &str) -> Credential {
    Credential::Inline(Secret::new(text))
}

fn authenticated(authentication: Authentication) -> Settings {
    Settings {
        authentication,
        ..Settings::PLAIN
    }
}

fn through(url: &str) -> proxy::Settings {
    proxy::Settings {
        choice: proxy::Choice::Fixed {
            url: Secret::new(url),
            no_proxy: None,
        },
        connect_headers: Vec::new(),
    }
}

// The values are those that `http_client.jsonl` has recorded behind the original.
#[tokio::test]
async fn basic_auth_and_authorization_send_the_originals_header() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pw");
    fs::write(&file, "filepass\n").unwrap();
    let server = Recorder::start(None, |_, _| ok("")).await;
    let basic = |password: Option<Credential>| Authentication::Basic {
        username: inline("u"),
        password,
    };
    let bearer = |scheme: &str, credential: Option<Credential>| Authentication::Header {
        scheme: scheme.to_owned(),
        credential,
    };
    let cases = [
        (basic(Some(inline("p"))), "Basic dTpw"),
        (
            basic(Some(Credential::File(file.clone()))),
            "Basic dTpmaWxlcGFzcw==",
        ),
        (basic(None), "Basic dTo="),
        (bearer("Bearer", Some(inline("abc"))), "Bearer abc"),
        (
            bearer("Bearer", Some(Credential::File(file.clone()))),
            "Bearer filepass",
        ),
        (bearer("Token", Some(inline("abc"))), "Token abc"),
        (bearer("Bearer", None), "Bearer"),
    ];
    for (authentication, expected) in cases {
        let client = client(authenticated(authentication));
        post(&client, &server.url("/api/v1/query")).await.unwrap();
        let asked = server.asked().pop().unwrap();
        assert_eq!(asked.header("authorization"), [expected]);
        assert_eq!(asked.line, "POST /api/v1/query");
        assert_eq!(asked.body, "query=up");
    }
    assert_eq!(server.asked().len(), 7);
}

#[tokio::test]
async fn files_are_read_for_each_request_and_a_missing_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tok");
    let server = Recorder::start(None, |_, _| ok("")).await;
    let client = client(Settings {
        headers: vec![(
            "x-more".to_owned(),
            vec![inline("a"), Credential::File(file.clone())],
        )],
        ..authenticated(Authentication::Header {
            scheme: "Bearer".to_owned(),
            credential: Some(Credential::File(file.clone())),
        })
    });
    for token in ["one", "two"] {
        fs::write(&file, token).unwrap();
        post(&client, &server.url("/")).await.unwrap();
        let asked = server.asked().pop().unwrap();
        assert_eq!(asked.header("authorization"), [format!("Bearer {token}")]);
        assert_eq!(asked.header("x-more"), ["a", token]);
    }
    fs::remove_file(&file).unwrap();
    let error = post(&client, &server.url("/")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Authentication);
    let path = file.display();
    let expected = format!(
        "unable to read header: unable to read file {path}: open {path}: no such file or directory"
    );
    assert_eq!(error.to_string(), expected);
    // A header with a line feed would be two.
    fs::write(&file, "a\nb").unwrap();
    let error = post(&client, &server.url("/")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "net/http: invalid header field value for \"x-more\""
    );
}

#[tokio::test]
async fn a_request_keeps_its_own_authorization_and_settings_do_not_show_secrets() {
    let server = Recorder::start(None, |_, _| ok("")).await;
    let settings = Settings {
        user_agent: Some("promxy/1".to_owned()),
        proxy: through("http://me:hidden@127.0.0.1:1"),
        ..authenticated(Authentication::Basic {
            username: inline("hidden"),
            password: Some(inline("hidden")),
        })
    };
    let shown = format!("{settings:?} {:?}", client(settings.clone()));
    assert!(
        !shown.contains("hidden") && !shown.contains("aGlkZGVu"),
        "{shown}"
    );
    let client = client(Settings {
        proxy: proxy::Settings::NONE,
        ..settings
    });
    let request = http::Request::get(server.url("/x?y=1"))
        .header("authorization", "own")
        .body(bytes::Bytes::new())
        .unwrap();
    client.send(request, None).await.unwrap();
    let asked = server.asked().pop().unwrap();
    assert_eq!(asked.line, "GET /x?y=1");
    assert_eq!(asked.header("authorization"), ["own"]);
    assert_eq!(asked.header("user-agent"), ["promxy/1"]);
    assert_eq!(asked.header("host"), [server.address.to_string()]);
}

#[tokio::test]
async fn sigv4_signs_what_is_sent() {
    let server = Recorder::start(None, |_, _| ok("")).await;
    let client = client(authenticated(Authentication::SigV4(sigv4::Settings {
        region: "us-east-1".to_owned(),
        service: "aps".to_owned(),
        access_key: "AKID".to_owned(),
        secret_key: Secret::new("SECRET"),
        session_token: Some(Secret::new("session")),
    })));
    post(&client, &server.url("/")).await.unwrap();
    let asked = server.asked().pop().unwrap();
    let header = asked.header("authorization")[0];
    let signed = "SignedHeaders=content-length;content-type;host;x-amz-date;x-amz-security-token,";
    assert!(
        header.starts_with("AWS4-HMAC-SHA256 Credential=AKID/"),
        "{header}"
    );
    assert!(header.contains(signed), "{header}");
    assert_eq!(asked.header("content-length"), ["8"]);
}

fn oauth2_settings(token_url: String) -> Settings {
    authenticated(Authentication::OAuth2(Box::new(oauth2::Settings {
        client_id: "a".to_owned(),
        client_secret: Some(inline("b")),
        scopes: vec!["s1".to_owned(), "s2".to_owned()],
        token_url,
        endpoint_params: vec![("audience".to_owned(), Secret::new("x y"))],
        tls: Tls::SYSTEM,
        proxy: proxy::Settings::NONE,
    })))
}

#[tokio::test]
async fn an_oauth2_token_is_fetched_once_for_many_requests() {
    let tokens = Recorder::start(None, |number, _| {
        std::thread::sleep(Duration::from_millis(30));
        ok(&format!(
            r#"{{"access_token":"tok{number}","token_type":"bearer","expires_in":3600}}"#
        ))
    })
    .await;
    let server = Recorder::start(None, |_, _| ok("")).await;
    let client = client(oauth2_settings(tokens.url("/token")));
    let url = server.url("/");
    let all = (0..20).map(|_| post(&client, &url));
    for answer in futures_util::future::join_all(all).await {
        assert_eq!(answer.unwrap().0, 200);
    }
    let asked = tokens.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].line, "POST /token");
    assert_eq!(asked[0].header("authorization"), ["Basic YTpi"]);
    assert_eq!(
        asked[0].header("content-type"),
        ["application/x-www-form-urlencoded"]
    );
    assert_eq!(
        asked[0].body,
        "grant_type=client_credentials&scope=s1+s2&audience=x+y"
    );
    let headers: Vec<_> = server.asked();
    assert!(
        headers
            .iter()
            .all(|asked| asked.header("authorization") == ["Bearer tok0"])
    );
}

#[tokio::test]
async fn an_oauth2_token_is_replaced_when_it_ends_or_is_refused() {
    let life = Arc::new(AtomicU32::new(1));
    let now = Arc::clone(&life);
    let tokens = Recorder::start(None, move |number, _| {
        let life = now.load(Ordering::Relaxed);
        ok(&format!(
            r#"{{"access_token":"tok{number}","expires_in":"{life}"}}"#
        ))
    })
    .await;
    let server = Recorder::start(None, |_, asked| {
        let is_refused = asked.header("authorization") == ["Bearer tok1"];
        (
            if is_refused { 401 } else { 200 },
            Vec::new(),
            String::new(),
        )
    })
    .await;
    let client = client(oauth2_settings(tokens.url("/token")));
    assert_eq!(post(&client, &server.url("/")).await.unwrap().0, 200);
    life.store(3600, Ordering::Relaxed);
    let deadline = Instant::now() + PATIENCE;
    while post(&client, &server.url("/")).await.unwrap().0 == 200 {
        assert!(
            Instant::now() < deadline,
            "the token of one second is still in use"
        );
        sleep(Duration::from_millis(50)).await;
    }
    // The second one was refused, so that the next request gets another.
    assert_eq!(post(&client, &server.url("/")).await.unwrap().0, 200);
    assert_eq!(tokens.asked().len(), 3);
}

#[tokio::test]
async fn an_oauth2_server_that_wants_the_secret_in_the_form_gets_it_there() {
    let tokens = Recorder::start(None, |_, asked| {
        if asked.headers.contains_key("authorization") {
            return (401, Vec::new(), "no".to_owned());
        }
        ok(r#"{"access_token":"t","token_type":"Custom"}"#)
    })
    .await;
    let server = Recorder::start(None, |_, _| ok("")).await;
    let client = client(oauth2_settings(tokens.url("/")));
    post(&client, &server.url("/")).await.unwrap();
    let form = "client_id=a&client_secret=b&grant_type=client_credentials&scope=s1+s2&audience=x+y";
    assert_eq!(tokens.asked()[1].body, form);
    assert_eq!(server.asked()[0].header("authorization"), ["Custom t"]);
}

#[tokio::test]
async fn an_oauth2_server_that_gives_no_token_is_quoted() {
    let tokens = Recorder::start(None, |_, asked| match asked.line.as_str() {
        "POST /no" => (403, Vec::new(), "go away".to_owned()),
        "POST /odd" => ok("secret nonsense"),
        _ => ok("{}"),
    })
    .await;
    let server = Recorder::start(None, |_, _| ok("")).await;
    let f = async |url: String, expected: &str| {
        let error = post(&client(oauth2_settings(url)), &server.url("/")).await;
        let error = error.unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.kind(), Kind::Authentication);
    };
    f(
        tokens.url("/no"),
        "oauth2: cannot fetch token: 403 Forbidden\nResponse: go away",
    )
    .await;
    f(
        tokens.url("/odd"),
        "oauth2: cannot parse json: line 1, column 1",
    )
    .await;
    f(
        tokens.url("/empty"),
        "oauth2: server response missing access_token",
    )
    .await;
    let port = free_tcp_port();
    let url = format!("http://127.0.0.1:{port}/");
    let refused = format!("Post \"{url}\": dial tcp 127.0.0.1:{port}: connect: connection refused");
    f(url, &refused).await;
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn follow_redirects_repeats_307_and_turns_302_into_a_get() {
    let answer = |_: usize, asked: &recorder::Asked| -> Answer {
        let to = |status: u16, place: &str| {
            (status, vec![("location", place.to_owned())], String::new())
        };
        match asked.line.as_str() {
            "POST /a/keep" => to(308, "../there?x=1"),
            "POST /a/change" => to(302, "/there#part"),
            _ => ok(&format!(
                "{} {} {}",
                asked.line,
                asked.body,
                asked.headers.contains_key("content-type")
            )),
        }
    };
    let server = Recorder::start(None, answer).await;
    let following = client(Settings::PLAIN);
    let (_, body) = post(&following, &server.url("/a/keep")).await.unwrap();
    assert_eq!(body, "POST /there?x=1 query=up true");
    let (_, body) = post(&following, &server.url("/a/change")).await.unwrap();
    assert_eq!(body, "GET /there  false");
    let returning = client(Settings {
        redirects: Redirects::Return,
        ..Settings::PLAIN
    });
    assert_eq!(
        post(&returning, &server.url("/a/keep")).await.unwrap().0,
        308
    );
}

#[tokio::test]
async fn follow_redirects_gives_up_after_ten_and_shows_other_hosts_no_secrets() {
    let circle = Recorder::start(None, |_, _| {
        (
            302,
            vec![("location", "/elsewhere".to_owned())],
            String::new(),
        )
    })
    .await;
    let error = post(&client(Settings::PLAIN), &circle.url("/"))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "stopped after 10 redirects");
    assert_eq!(error.redirected_to(), Some("/elsewhere"));
    assert_eq!((error.kind(), circle.asked().len()), (Kind::Redirect, 10));

    let other = Recorder::start(None, |_, _| ok("")).await;
    let port = other.address.port();
    let server = Recorder::start(None, move |_, asked| {
        let host = asked.line.split('/').next_back().unwrap();
        (
            307,
            vec![("location", format!("http://{host}:{port}/"))],
            String::new(),
        )
    })
    .await;
    let client = client(Settings {
        headers: vec![("x-scope-orgid".to_owned(), vec![inline("t")])],
        ..authenticated(Authentication::Basic {
            username: inline("u"),
            password: None,
        })
    });
    for (host, is_shown) in [("127.0.0.1", true), ("localhost", false)] {
        post(&client, &server.url(&format!("/{host}")))
            .await
            .unwrap();
        let asked = other.asked().pop().unwrap();
        assert_eq!(asked.headers.contains_key("authorization"), is_shown);
        assert_eq!(asked.headers.contains_key("x-scope-orgid"), is_shown);
        assert_eq!(asked.header("host"), [format!("{host}:{port}")]);
    }
}

// As recorded: the whole URL in the request's line.
#[tokio::test]
async fn proxy_url_gets_whole_urls_for_http_and_its_own_password() {
    let proxy = Recorder::start(None, |_, _| ok("proxied")).await;
    let settings = |no_proxy: Option<&str>| Settings {
        proxy: proxy::Settings {
            choice: proxy::Choice::Fixed {
                url: Secret::new(format!("http://me:pw@{}", proxy.address)),
                no_proxy: no_proxy.map(str::to_owned),
            },
            connect_headers: Vec::new(),
        },
        ..Settings::PLAIN
    };
    let (_, body) = post(
        &client(settings(None)),
        "http://127.0.0.1:25201/api/v1/query",
    )
    .await
    .unwrap();
    assert_eq!(body, "proxied");
    let asked = proxy.asked().pop().unwrap();
    assert_eq!(asked.line, "POST http://127.0.0.1:25201/api/v1/query");
    assert_eq!(asked.header("host"), ["127.0.0.1:25201"]);
    assert_eq!(asked.header("proxy-authorization"), ["Basic bWU6cHc="]);
    let server = Recorder::start(None, |_, _| ok("direct")).await;
    let direct = client(settings(Some("127.0.0.0/8")));
    assert_eq!(post(&direct, &server.url("/")).await.unwrap().1, "direct");
    assert!(
        !server.asked()[0]
            .headers
            .contains_key("proxy-authorization")
    );
}

#[tokio::test]
async fn a_proxy_that_refuses_or_is_away_is_told_from_the_server() {
    let server = Recorder::start(None, |_, _| ok("")).await;
    let (proxy, _) = tunnelling_proxy(
        &server.tasks,
        Some("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
    )
    .await;
    let port = free_tcp_port();
    let f = async |proxy: String, url: &str, expected: &str| {
        let client = client(Settings {
            proxy: through(&proxy),
            ..Settings::PLAIN
        });
        let error = post(&client, url).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (Kind::Connect, expected)
        );
    };
    f(
        format!("http://{proxy}"),
        "https://127.0.0.1:1/",
        "proxyconnect tcp: Proxy Authentication Required",
    )
    .await;
    let away = format!("proxyconnect tcp: dial tcp 127.0.0.1:{port}: connect: connection refused");
    f(
        format!("http://127.0.0.1:{port}"),
        "http://127.0.0.1:1/",
        &away,
    )
    .await;
}

#[tokio::test]
async fn connections_are_used_again_unless_none_may_idle() {
    let server = Recorder::start(None, |_, _| ok("")).await;
    let f = async |per_host: usize, expected: usize| {
        let client = client(Settings {
            versions: Versions::Http1,
            idle: Idle {
                per_host,
                ..Idle::PROMETHEUS
            },
            ..Settings::PLAIN
        });
        let before = server.asked().len();
        for _ in 0..3 {
            post(&client, &server.url("/")).await.unwrap();
        }
        let asked = server.asked();
        let mut peers: Vec<_> = asked[before..].iter().map(|asked| asked.peer).collect();
        peers.dedup();
        assert_eq!(peers.len(), expected);
    };
    f(10, 1).await;
    f(0, 3).await;
}
