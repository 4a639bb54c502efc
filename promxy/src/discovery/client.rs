//! From the HTTP clients of the configuration to real ones.

use std::time::Duration;

use shared::{
    config::secret::Secret,
    http::client::{
        Authentication, Client, Credential as Read, Idle, Redirects, Settings, Versions, oauth2,
        proxy, sigv4,
    },
    tls::{
        Identity, Pem, Version, Versions as TlsVersions,
        client::{Roots, Settings as TlsSettings, Verification},
    },
};

use super::Environment;
use crate::config::{Credential, HttpClient, OAuth2, Proxy, SigV4, Tls};

/// How long connecting may take where the configuration has no word for it, as in Prometheus.
const DIAL: Duration = Duration::from_secs(30);

/// Why the configuration makes no client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientSettingsError {
    /// Signing for AWS needs a key, which neither the configuration nor the environment has.
    #[error(
        "sigv4: no access_key and secret_key, and no AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"
    )]
    NoKey,
    /// Signing for AWS needs a region.
    #[error("sigv4: no region, and no AWS_REGION in the environment")]
    NoRegion,
    /// Keys that have to be fetched first.
    #[error("sigv4: {0} is not supported")]
    Unsupported(&'static str),
}

/// Makes the settings of a client: what is connected to, and how it is shown who asks.
///
/// With several ways to authenticate, which server groups may have, `oauth2` comes before `basic_auth`, and that before
/// `authorization`, as in Prometheus. `idle` is Prometheus' own; a server group replaces it by what it says.
pub fn client_settings(
    client: &HttpClient,
    environment: &Environment,
) -> Result<Settings, ClientSettingsError> {
    let HttpClient {
        dial_timeout,
        basic_auth,
        authorization,
        oauth2,
        sigv4,
        tls,
        returns_redirects,
        enable_http2,
        proxy,
        headers,
    } = client;
    let authentication = if let Some(oauth2) = oauth2 {
        Authentication::OAuth2(Box::new(token_server(oauth2, environment)))
    } else if let Some(basic) = basic_auth {
        Authentication::Basic {
            username: credential(&basic.username),
            password: basic.password.as_ref().map(credential),
        }
    } else if let Some(authorization) = authorization {
        Authentication::Header {
            scheme: authorization.scheme.clone(),
            credential: authorization.credential.as_ref().map(credential),
        }
    } else if let Some(sigv4) = sigv4 {
        Authentication::SigV4(signature(sigv4, environment)?)
    } else {
        Authentication::None
    };
    let headers = headers.iter().map(|(name, values)| {
        let values = values.iter().map(credential).collect();
        (name.clone(), values)
    });
    Ok(Settings {
        user_agent: Some(concat!("promxy/", env!("CARGO_PKG_VERSION")).to_owned()),
        tls: tls_settings(tls),
        authentication,
        headers: headers.collect(),
        proxy: proxy_settings(proxy, environment),
        redirects: if *returns_redirects {
            Redirects::Return
        } else {
            Redirects::Follow
        },
        versions: if *enable_http2 {
            Versions::Http1And2
        } else {
            Versions::Http1
        },
        dial: dial_timeout.unwrap_or(DIAL),
        idle: Idle::PROMETHEUS,
    })
}

/// Says what is wrong with a client, and with the files that it names. Must be called within a runtime.
pub fn check_client(client: &HttpClient, environment: &Environment) -> Result<(), String> {
    let settings = client_settings(client, environment).map_err(|error| error.to_string())?;
    Client::new(settings).map_err(|error| error.to_string())?;
    Ok(())
}

pub(super) fn credential(credential: &Credential) -> Read {
    match credential {
        Credential::Inline(secret) => Read::Inline(secret.clone()),
        Credential::File(path) => Read::File(path.into()),
    }
}

fn pem(credential: &Credential) -> Pem {
    match credential {
        Credential::Inline(secret) => Pem::Text(secret.clone()),
        Credential::File(path) => Pem::File(path.into()),
    }
}

fn tls_settings(tls: &Tls) -> TlsSettings {
    let Tls {
        authority,
        identity,
        server_name,
        insecure_skip_verify,
        min_version,
        max_version,
    } = tls;
    // TLS 1.0 and 1.1 are not spoken: as the least they mean the oldest that is; as the greatest nothing is left, which
    // making the client then says.
    let least = match min_version.as_deref() {
        Some("TLS13") => Version::Tls13,
        _ => Version::Tls12,
    };
    let versions = match max_version.as_deref() {
        None | Some("TLS13") => TlsVersions {
            least,
            most: Version::Tls13,
        },
        Some("TLS12") => TlsVersions {
            least,
            most: Version::Tls12,
        },
        Some(_) => TlsVersions {
            least: Version::Tls13,
            most: Version::Tls12,
        },
    };
    TlsSettings {
        roots: authority.as_ref().map_or(Roots::System, |authority| {
            Roots::Authorities(pem(authority))
        }),
        verification: if *insecure_skip_verify {
            Verification::InsecureSkipVerify
        } else {
            Verification::Full
        },
        identity: identity.as_ref().map(|identity| Identity {
            certificates: pem(&identity.certificate),
            key: pem(&identity.key),
        }),
        server_name: server_name.clone(),
        versions,
        alpn: Vec::new(),
    }
}

fn proxy_settings(proxy: &Proxy, environment: &Environment) -> proxy::Settings {
    let choice = match (&proxy.url, proxy.from_environment) {
        (Some(url), _) => proxy::Choice::Fixed {
            url: url.clone(),
            no_proxy: proxy.no_proxy.clone(),
        },
        (None, true) => proxy::Choice::Variables(environment.proxies.clone()),
        (None, false) => proxy::Choice::Direct,
    };
    let headers = proxy.connect_headers.iter().map(|(name, values)| {
        let values = values.iter().map(Secret::new).collect();
        (name.clone(), values)
    });
    proxy::Settings {
        choice,
        connect_headers: headers.collect(),
    }
}

fn token_server(oauth2: &OAuth2, environment: &Environment) -> oauth2::Settings {
    oauth2::Settings {
        client_id: oauth2.client_id.clone(),
        client_secret: oauth2.client_secret.as_ref().map(credential),
        scopes: oauth2.scopes.clone(),
        token_url: oauth2.token_url.clone(),
        endpoint_params: oauth2.endpoint_params.clone(),
        tls: tls_settings(&oauth2.tls),
        proxy: proxy_settings(&oauth2.proxy, environment),
    }
}

fn signature(
    sigv4: &SigV4,
    environment: &Environment,
) -> Result<sigv4::Settings, ClientSettingsError> {
    if !sigv4.role_arn.is_empty() {
        return Err(ClientSettingsError::Unsupported("role_arn"));
    }
    if !sigv4.profile.is_empty() {
        return Err(ClientSettingsError::Unsupported("profile"));
    }
    let aws = &environment.aws;
    let given = (!sigv4.access_key.is_empty())
        .then(|| (sigv4.access_key.clone(), sigv4.secret_key.clone(), None));
    let (access_key, secret_key, session_token) = given
        .or_else(|| aws.key.clone())
        .ok_or(ClientSettingsError::NoKey)?;
    let region = Some(sigv4.region.clone()).filter(|region| !region.is_empty());
    Ok(sigv4::Settings {
        region: region
            .or_else(|| aws.region.clone())
            .ok_or(ClientSettingsError::NoRegion)?,
        service: sigv4.service_name.clone(),
        access_key,
        secret_key,
        session_token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(keys: &str, variables: &[(&str, &str)]) -> Result<Settings, ClientSettingsError> {
        let text = format!(
            "promxy:\n  server_groups:\n  - static_configs: []\n    http_client: {{{keys}}}\n"
        );
        let mut config = crate::config::parse(&text).unwrap().config;
        let client = config.server_groups.remove(0).http_client;
        let environment = Environment::read(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        client_settings(&client, &environment)
    }

    #[test]
    fn the_least_configuration_follows_redirects_and_connects_within_200ms() {
        let found = settings("", &[]).unwrap();
        let expected = Settings {
            user_agent: found.user_agent.clone(),
            versions: Versions::Http1,
            dial: Duration::from_millis(200),
            ..Settings::PLAIN
        };
        assert_eq!(found, expected);
        let redirects = |keys: &str| settings(keys, &[]).unwrap().redirects;
        assert_eq!(redirects("follow_redirects: true"), Redirects::Follow);
        assert_eq!(redirects("follow_redirects: false"), Redirects::Return);
    }

    #[test]
    fn every_way_to_authenticate_is_taken_over() {
        let f = |keys: &str, expected: Authentication| {
            assert_eq!(settings(keys, &[]).unwrap().authentication, expected);
        };
        let inline = |text: &str| Read::Inline(Secret::new(text));
        f(
            "basic_auth: {username: u, password_file: pw}",
            Authentication::Basic {
                username: inline("u"),
                password: Some(Read::File("pw".into())),
            },
        );
        let header = |scheme: &str, credential: Read| Authentication::Header {
            scheme: scheme.to_owned(),
            credential: Some(credential),
        };
        f("bearer_token: abc", header("Bearer", inline("abc")));
        f(
            "bearer_token_file: f",
            header("Bearer", Read::File("f".into())),
        );
        f(
            "authorization: {credentials: abc}",
            header("Bearer", inline("abc")),
        );
        f(
            "authorization: {type: X, credentials: abc}",
            header("X", inline("abc")),
        );
        f(
            "oauth2: {client_id: a, client_secret: b, token_url: 'http://t/', scopes: [s], endpoint_params: {k: v}}",
            Authentication::OAuth2(Box::new(oauth2::Settings {
                client_id: "a".to_owned(),
                client_secret: Some(inline("b")),
                scopes: vec!["s".to_owned()],
                token_url: "http://t/".to_owned(),
                endpoint_params: vec![("k".to_owned(), Secret::new("v"))],
                tls: TlsSettings::SYSTEM,
                proxy: proxy::Settings::NONE,
            })),
        );
    }

    #[test]
    fn sigv4_takes_what_is_missing_from_the_environment() {
        let keys = "sigv4: {region: r, access_key: a, secret_key: s}";
        let signed = |found: Settings| match found.authentication {
            Authentication::SigV4(signed) => signed,
            other => panic!("{other:?}"),
        };
        let given = signed(settings(keys, &[]).unwrap());
        assert_eq!(
            (given.region.as_str(), given.service.as_str()),
            ("r", "aps")
        );
        let environment = [
            ("AWS_ACCESS_KEY_ID", "A"),
            ("AWS_SECRET_ACCESS_KEY", "S"),
            ("AWS_SESSION_TOKEN", "T"),
            ("AWS_REGION", "R"),
        ];
        let found = signed(settings("sigv4: {}", &environment).unwrap());
        assert_eq!(
            (found.region.as_str(), found.access_key.as_str()),
            ("R", "A")
        );
        assert_eq!(found.session_token, Some(Secret::new("T")));
        let f = |keys: &str, expected: ClientSettingsError| {
            assert_eq!(settings(keys, &[]).unwrap_err(), expected);
        };
        f("sigv4: {region: r}", ClientSettingsError::NoKey);
        f(
            "sigv4: {access_key: a, secret_key: s}",
            ClientSettingsError::NoRegion,
        );
        f(
            "sigv4: {role_arn: x}",
            ClientSettingsError::Unsupported("role_arn"),
        );
    }

    #[test]
    fn tls_and_proxies_are_taken_over() {
        let tls = |keys: &str| {
            settings(&format!("tls_config: {{{keys}}}"), &[])
                .unwrap()
                .tls
        };
        let found =
            tls("ca_file: ca, cert_file: c, key_file: k, server_name: n, min_version: TLS13");
        let expected = TlsSettings {
            roots: Roots::Authorities(Pem::File("ca".into())),
            identity: Some(Identity {
                certificates: Pem::File("c".into()),
                key: Pem::File("k".into()),
            }),
            server_name: Some("n".to_owned()),
            versions: TlsVersions {
                least: Version::Tls13,
                most: Version::Tls13,
            },
            ..TlsSettings::SYSTEM
        };
        assert_eq!(found, expected);
        assert_eq!(
            tls("insecure_skip_verify: true").verification,
            Verification::InsecureSkipVerify
        );
        assert_eq!(tls("min_version: TLS10").versions, TlsVersions::ALL);
        let old = tls("max_version: TLS11");
        assert!(shared::tls::client::Client::new(&old).is_err());
        let fixed = settings(
            "proxy_url: 'http://p:1', no_proxy: 'a,b', proxy_connect_header: {X: [y]}",
            &[],
        );
        let expected = proxy::Settings {
            choice: proxy::Choice::Fixed {
                url: Secret::new("http://p:1"),
                no_proxy: Some("a,b".to_owned()),
            },
            connect_headers: vec![("X".to_owned(), vec![Secret::new("y")])],
        };
        assert_eq!(fixed.unwrap().proxy, expected);
        let variables = settings("proxy_from_environment: true", &[("http_proxy", "q:2")]);
        let proxy::Choice::Variables(variables) = variables.unwrap().proxy.choice else {
            panic!("the environment says which proxy");
        };
        assert_eq!(variables.http, Some(Secret::new("q:2")));
    }

    #[test]
    fn http_headers_keep_values_secrets_and_files() {
        let found = settings(
            "http_headers: {X-A: {values: [b], secrets: [c], files: [d]}}",
            &[],
        );
        let inline = |text: &str| Read::Inline(Secret::new(text));
        let values = vec![inline("b"), inline("c"), Read::File("d".into())];
        assert_eq!(found.unwrap().headers, [("X-A".to_owned(), values)]);
    }
}
