//! An HTTP client as the proxy builds it.

use std::time::Duration;

use shared::config::secret::Secret;

use super::{positive, word};
use crate::config::schema::{Item, Section};

/// A secret that is written down, or stands in a file that is read for each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Written down.
    Inline(Secret),
    /// In a file.
    File(String),
}

/// How targets are connected to. The default is neither TLS settings nor authentication, with the original's limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpClient {
    /// How long connecting may take.
    pub dial_timeout: Option<Duration>,
    /// Name and password.
    pub basic_auth: Option<BasicAuth>,
    /// The `Authorization` header, also of `bearer_token` and its file.
    pub authorization: Option<Authorization>,
    /// A token from a token server.
    pub oauth2: Option<OAuth2>,
    /// Signing requests for AWS.
    pub sigv4: Option<SigV4>,
    /// What is trusted and shown.
    pub tls: Tls,
    /// Whether redirects are answers like all others, instead of being followed.
    pub returns_redirects: bool,
    /// Whether HTTP/2 is offered.
    pub enable_http2: bool,
    /// The proxy in between.
    pub proxy: Proxy,
    /// Headers of every request, each with its values.
    pub headers: Vec<(String, Vec<Credential>)>,
}

/// Name and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicAuth {
    /// The name.
    pub username: Credential,
    /// The password; absent means empty.
    pub password: Option<Credential>,
}

/// The `Authorization` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// The word in front, `Bearer` by default.
    pub scheme: String,
    /// What follows it, if anything.
    pub credential: Option<Credential>,
}

/// A token from a token server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuth2 {
    /// Who asks.
    pub client_id: String,
    /// The asker's secret.
    pub client_secret: Option<Credential>,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// Where.
    pub token_url: String,
    /// More parameters.
    pub endpoint_params: Vec<(String, Secret)>,
    /// What is trusted and shown.
    pub tls: Tls,
    /// The proxy in between.
    pub proxy: Proxy,
}

/// Signing requests for AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigV4 {
    /// The region; empty for that of the environment.
    pub region: String,
    /// The key; empty for that of the environment.
    pub access_key: String,
    /// The key's secret.
    pub secret_key: Secret,
    /// A profile of the credentials file.
    pub profile: String,
    /// A role to assume.
    pub role_arn: String,
    /// Whether the token service's FIPS endpoint is used.
    pub use_fips_sts_endpoint: bool,
    /// The service's name, `aps` by default.
    pub service_name: String,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate.
    pub certificate: Credential,
    /// The key.
    pub key: Credential,
}

/// What is trusted and shown on TLS connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The authority, if not the system's.
    pub authority: Option<Credential>,
    /// What is shown to servers that ask.
    pub identity: Option<ClientIdentity>,
    /// The name that a server must have, if not its address.
    pub server_name: Option<String>,
    /// Whether servers are not checked at all.
    pub insecure_skip_verify: bool,
    /// The least version, as Prometheus names it.
    pub min_version: Option<String>,
    /// The greatest version.
    pub max_version: Option<String>,
}

/// A proxy in between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxy {
    /// Its URL.
    pub url: Option<Secret>,
    /// For which hosts it is not used.
    pub no_proxy: Option<String>,
    /// Whether the environment says what is used.
    pub from_environment: bool,
    /// Headers of `CONNECT` requests.
    pub connect_headers: Vec<(String, Vec<String>)>,
}

impl HttpClient {
    pub(in crate::config) fn new(client: &Section) -> Self {
        let bearer =
            credential(client, "bearer_token", "bearer_token_file").map(|token| Authorization {
                scheme: "Bearer".to_owned(),
                credential: Some(token),
            });
        let dial_timeout = client
            .schema
            .fields()
            .any(|field| field.key == "dial_timeout");
        let sigv4 = client.schema.fields().any(|field| field.key == "sigv4");
        Self {
            dial_timeout: dial_timeout
                .then(|| positive(client.nanos("dial_timeout")))
                .flatten(),
            basic_auth: client.section("basic_auth").map(|basic| BasicAuth {
                username: credential(basic, "username", "username_file")
                    .unwrap_or_else(|| Credential::Inline(Secret::new(""))),
                password: credential(basic, "password", "password_file"),
            }),
            authorization: client
                .section("authorization")
                .map_or(bearer, |authorization| {
                    Some(Authorization {
                        scheme: word(authorization, "type").unwrap_or_else(|| "Bearer".to_owned()),
                        credential: credential(authorization, "credentials", "credentials_file"),
                    })
                }),
            oauth2: client.section("oauth2").map(OAuth2::new),
            sigv4: sigv4
                .then(|| client.section("sigv4").map(SigV4::new))
                .flatten(),
            tls: client
                .section("tls_config")
                .map(Tls::new)
                .unwrap_or_default(),
            returns_redirects: matches!(client.item("follow_redirects"), Item::Bool(false)),
            enable_http2: client.flag("enable_http2"),
            proxy: Proxy::new(client),
            headers: client.map("http_headers").iter().map(header).collect(),
        }
    }
}

impl OAuth2 {
    fn new(oauth2: &Section) -> Self {
        let params = oauth2.pairs("endpoint_params").into_iter();
        Self {
            client_id: oauth2.text("client_id").to_owned(),
            client_secret: credential(oauth2, "client_secret", "client_secret_file"),
            scopes: oauth2.words("scopes").map(str::to_owned).collect(),
            token_url: oauth2.text("token_url").to_owned(),
            endpoint_params: params
                .map(|(name, value)| (name, Secret::new(value)))
                .collect(),
            tls: oauth2
                .section("tls_config")
                .map(Tls::new)
                .unwrap_or_default(),
            proxy: Proxy::new(oauth2),
        }
    }
}

impl SigV4 {
    fn new(sigv4: &Section) -> Self {
        let text = |key: &str| sigv4.text(key).to_owned();
        Self {
            region: text("region"),
            access_key: text("access_key"),
            secret_key: Secret::new(sigv4.text("secret_key")),
            profile: text("profile"),
            role_arn: text("role_arn"),
            use_fips_sts_endpoint: sigv4.flag("use_fips_sts_endpoint"),
            service_name: word(sigv4, "service_name").unwrap_or_else(|| "aps".to_owned()),
        }
    }
}

impl Tls {
    fn new(tls: &Section) -> Self {
        let certificate = credential(tls, "cert", "cert_file");
        let identity = certificate.zip(credential(tls, "key", "key_file"));
        Self {
            authority: credential(tls, "ca", "ca_file"),
            identity: identity.map(|(certificate, key)| ClientIdentity { certificate, key }),
            server_name: word(tls, "server_name"),
            insecure_skip_verify: tls.flag("insecure_skip_verify"),
            min_version: word(tls, "min_version"),
            max_version: word(tls, "max_version"),
        }
    }
}

impl Proxy {
    fn new(client: &Section) -> Self {
        let words = |item: &Item| match item {
            Item::List(items) => items.iter().map(|item| item.as_text().to_owned()).collect(),
            _ => Vec::new(),
        };
        let headers = client.map("proxy_connect_header").iter();
        Self {
            url: word(client, "proxy_url").map(Secret::new),
            no_proxy: word(client, "no_proxy"),
            from_environment: client.flag("proxy_from_environment"),
            connect_headers: headers
                .map(|(name, item)| (name.clone(), words(item)))
                .collect(),
        }
    }
}

pub(super) fn credential(section: &Section, inline: &str, file: &str) -> Option<Credential> {
    let written = word(section, inline).map(|secret| Credential::Inline(Secret::new(secret)));
    written.or_else(|| word(section, file).map(Credential::File))
}

fn header((name, item): &(String, Item)) -> (String, Vec<Credential>) {
    let Item::Section(header) = item else {
        return (name.clone(), Vec::new());
    };
    let inline = header.words("values").chain(header.words("secrets"));
    let inline = inline.map(|value| Credential::Inline(Secret::new(value)));
    let files = header
        .words("files")
        .map(|path| Credential::File(path.to_owned()));
    (name.clone(), inline.chain(files).collect())
}
