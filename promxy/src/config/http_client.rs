//! The keys of Prometheus' HTTP client, and what must hold between them.

use super::schema::{Default, Field, Kind, Schema, Section, Shown};

/// How a client authenticates and what it trusts.
pub(crate) const AUTHENTICATION: &[Field] = &[
    Field::new("basic_auth", Kind::Optional(&BASIC_AUTH)),
    Field::new("authorization", Kind::Optional(&AUTHORIZATION)),
    Field::new("oauth2", Kind::Optional(&OAUTH2)),
    Field::new("bearer_token", Kind::Secret),
    Field::new("bearer_token_file", Kind::Text),
    Field::new("tls_config", Kind::Section(&TLS)),
];

/// Redirects and HTTP/2 as Prometheus has them.
pub(crate) const FOLLOWING: &[Field] = &[
    Field::new("follow_redirects", Kind::Bool)
        .default(Default::Bool(true))
        .shown(Shown::Always),
    Field::new("enable_http2", Kind::Bool)
        .default(Default::Bool(true))
        .shown(Shown::Always),
];

/// Redirects and HTTP/2 of remote write.
pub(crate) const FOLLOWING_HTTP1: &[Field] = &[
    Field::new("follow_redirects", Kind::Bool)
        .default(Default::Bool(true))
        .shown(Shown::Always),
    Field::new("enable_http2", Kind::Bool).shown(Shown::Always),
];

/// Redirects and HTTP/2 of server groups, where Prometheus' defaults never reached: the page says that redirects are not followed,
/// and they are, unless the file says so.
pub(crate) const NOT_FOLLOWING: &[Field] = &[
    Field::new("follow_redirects", Kind::MaybeBool).shown(Shown::Always),
    Field::new("enable_http2", Kind::Bool).shown(Shown::Always),
];

/// Proxies.
pub(crate) const PROXY: &[Field] = &[
    Field::new("proxy_url", Kind::Url),
    Field::new("no_proxy", Kind::Text),
    Field::new("proxy_from_environment", Kind::Bool),
    Field::new("proxy_connect_header", Kind::Lists),
];

/// Headers of every request.
pub(crate) const HEADERS: &[Field] = &[Field::new("http_headers", Kind::SectionMap(&HEADER))];

/// The client of a server group.
pub(crate) static SERVER_GROUP_CLIENT: Schema = Schema {
    go_type: "servergroup.HTTPClientConfig",
    fields: &[
        &[Field::new("dial_timeout", Kind::GoDuration)
            .default(Default::Nanos(200_000_000))
            .shown(Shown::Always)],
        AUTHENTICATION,
        NOT_FOLLOWING,
        PROXY,
        HEADERS,
        &[Field::new("sigv4", Kind::Optional(&SIGV4))],
    ],
    check: |_| Ok(()),
    null: None,
    is_open: false,
};

static HEADER: Schema = Schema {
    go_type: "config.Header",
    fields: &[&[
        Field::new("values", Kind::List(&Kind::Text)),
        Field::new("secrets", Kind::List(&Kind::Secret)),
        Field::new("files", Kind::List(&Kind::Text)),
    ]],
    check: |_| Ok(()),
    null: None,
    is_open: false,
};

static BASIC_AUTH: Schema = Schema {
    go_type: "config.BasicAuth",
    fields: &[&[
        Field::new("username", Kind::Text).shown(Shown::Always),
        Field::new("username_file", Kind::Text),
        Field::new("username_ref", Kind::Text),
        Field::new("password", Kind::Secret),
        Field::new("password_file", Kind::Text),
        Field::new("password_ref", Kind::Text),
    ]],
    check: |_| Ok(()),
    null: None,
    is_open: false,
};

static AUTHORIZATION: Schema = Schema {
    go_type: "config.Authorization",
    fields: &[&[
        Field::new("type", Kind::Text),
        Field::new("credentials", Kind::Secret),
        Field::new("credentials_file", Kind::Text),
        Field::new("credentials_ref", Kind::Text),
    ]],
    check: |_| Ok(()),
    null: None,
    is_open: false,
};

static OAUTH2: Schema = Schema {
    go_type: "config.OAuth2",
    fields: &[
        &[
            Field::new("client_id", Kind::Text).shown(Shown::Always),
            Field::new("client_secret", Kind::Secret).shown(Shown::Always),
            Field::new("client_secret_file", Kind::Text).shown(Shown::Always),
            Field::new("client_secret_ref", Kind::Text).shown(Shown::Always),
            Field::new("scopes", Kind::List(&Kind::Text)),
            Field::new("token_url", Kind::Url).shown(Shown::Always),
            Field::new("endpoint_params", Kind::SecretMap),
            Field::new("tls_config", Kind::Section(&TLS)),
        ],
        PROXY,
    ],
    check: |_| Ok(()),
    null: None,
    is_open: false,
};

pub(crate) static SIGV4: Schema = Schema {
    go_type: "sigv4.SigV4Config",
    fields: &[&[
        Field::new("region", Kind::Text),
        Field::new("access_key", Kind::Text),
        Field::new("secret_key", Kind::Secret),
        Field::new("profile", Kind::Text),
        Field::new("role_arn", Kind::Text),
        Field::new("external_id", Kind::Text),
        Field::new("use_fips_sts_endpoint", Kind::Bool),
        Field::new("service_name", Kind::Text),
    ]],
    check: |sigv4| {
        const HALF: &str = "must provide a AWS SigV4 Access key and Secret Key if credentials are specified in the SigV4 config";
        let is_half = sigv4.has("access_key") != sigv4.has("secret_key");
        if is_half {
            Err(HALF.to_owned())
        } else {
            Ok(())
        }
    },
    null: None,
    is_open: false,
};

pub(crate) static TLS: Schema = Schema {
    go_type: "config.TLSConfig",
    fields: &[&[
        Field::new("ca", Kind::Text),
        Field::new("cert", Kind::Text),
        Field::new("key", Kind::Secret),
        Field::new("ca_file", Kind::Text),
        Field::new("cert_file", Kind::Text),
        Field::new("key_file", Kind::Text),
        Field::new("ca_ref", Kind::Text),
        Field::new("cert_ref", Kind::Text),
        Field::new("key_ref", Kind::Text),
        Field::new("server_name", Kind::Text),
        Field::new("insecure_skip_verify", Kind::Bool).shown(Shown::Always),
        Field::new("min_version", Kind::Text),
        Field::new("max_version", Kind::Text),
    ]],
    check: check_tls,
    null: None,
    is_open: false,
};

fn check_tls(tls: &Section) -> Result<(), String> {
    for key in ["min_version", "max_version"] {
        check_tls_version(tls.text(key))?;
    }
    let count = |keys: [&str; 3]| keys.iter().filter(|key| tls.has(key)).count();
    let ways = [
        (count(["ca", "ca_file", "ca_ref"]), "ca, ca_file & ca_ref"),
        (
            count(["cert", "cert_file", "cert_ref"]),
            "cert, cert_file & cert_ref",
        ),
        (
            count(["key", "key_file", "key_ref"]),
            "key, key_file & key_ref",
        ),
    ];
    if let Some((_, names)) = ways.iter().find(|(count, _)| *count > 1) {
        return Err(format!("at most one of {names} must be configured"));
    }
    let [_, (certificates, _), (keys, _)] = ways;
    match (certificates, keys) {
        (1, 0) => Err(
            "exactly one of key or key_file must be configured when a client certificate is configured",
        ),
        (0, 1) => {
            Err("exactly one of cert or cert_file must be configured when a client key is configured")
        }
        _ => Ok(()),
    }
    .map_err(str::to_owned)
}

/// Says whether a TLS version has a name that Prometheus knows.
pub(crate) fn check_tls_version(version: &str) -> Result<(), String> {
    match version {
        "" | "TLS10" | "TLS11" | "TLS12" | "TLS13" => Ok(()),
        other => Err(format!("unknown TLS version: {other}")),
    }
}

/// What Prometheus asks of a client. The original never asked it of server groups, so neither is it asked there.
pub(crate) fn check_client(client: &Section) -> Result<(), String> {
    let optional = |key: &str| client.section(key);
    let has_bearer = client.has("bearer_token") || client.has("bearer_token_file");
    let (basic, oauth2) = (optional("basic_auth"), optional("oauth2"));
    let many =
        |section: &Section, keys: [&str; 3]| keys.iter().filter(|key| section.has(key)).count() > 1;
    let wrong = if client.has("bearer_token") && client.has("bearer_token_file") {
        "at most one of bearer_token & bearer_token_file must be configured"
    } else if (basic.is_some() || oauth2.is_some()) && has_bearer {
        "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured"
    } else if basic.is_some_and(|b| many(b, ["username", "username_file", "username_ref"])) {
        "at most one of basic_auth username, username_file & username_ref must be configured"
    } else if basic.is_some_and(|b| many(b, ["password", "password_file", "password_ref"])) {
        "at most one of basic_auth password, password_file & password_ref must be configured"
    } else if optional("authorization").is_some() && has_bearer {
        "authorization is not compatible with bearer_token & bearer_token_file"
    } else if optional("authorization")
        .is_some_and(|a| a.text("type").trim().eq_ignore_ascii_case("basic"))
    {
        "authorization type cannot be set to \"basic\", use \"basic_auth\" instead"
    } else if optional("authorization").is_some() && (basic.is_some() || oauth2.is_some())
        || basic.is_some() && oauth2.is_some()
    {
        "at most one of basic_auth, oauth2 & authorization must be configured"
    } else if oauth2.is_some_and(|oauth2| !oauth2.has("client_id")) {
        "oauth2 client_id must be configured"
    } else if oauth2.is_some_and(|oauth2| !oauth2.has("token_url")) {
        "oauth2 token_url must be configured"
    } else if client.flag("proxy_from_environment") && client.has("proxy_url") {
        "if proxy_from_environment is configured, proxy_url must not be configured"
    } else if client.flag("proxy_from_environment") && client.has("no_proxy") {
        "if proxy_from_environment is configured, no_proxy must not be configured"
    } else {
        return Ok(());
    };
    Err(wrong.to_owned())
}
