//! The DC/OS login: a principal's secret becomes a token.
//!
//! With a private key the principal shows a JSON web token that it has signed itself (RS256, no expiry: DC/OS takes it, and the
//! bytes are the original's), else its password.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderValue, header::CONTENT_TYPE};
use rustls::{
    SignatureScheme,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{PrivateKeyDer, pem::PemObject},
};
use serde::Deserialize;
use serde_json::Value;
use shared::config::secret::Secret;
use thiserror::Error;

const JWT_HEADER: &str = r#"{"alg":"RS256","typ":"JWT"}"#;

/// Why there is no token.
#[derive(Debug, Error)]
pub enum LoginError {
    /// The secret is not JSON.
    #[error("Failed to parse the marathon principal secret: {0}")]
    Secret(serde_json::Error),
    /// The secret has no user.
    #[error("the marathon principal secret has no 'uid'")]
    NoUser,
    /// The secret does not say where to log in, nor does the flag.
    #[error(
        "the marathon principal secret has no 'login_endpoint', and there is no --marathon-auth-endpoint"
    )]
    NoEndpoint,
    /// The secret has nothing to prove who one is.
    #[error("the marathon principal secret has neither 'private_key' nor 'password'")]
    NoProof,
    /// The key.
    #[error("the 'private_key' of the marathon principal secret cannot be used: {0}")]
    Key(String),
    /// No answer.
    #[error("Post {0:?}: {1}")]
    Unreachable(String, String),
    /// A refusal. The text is the original's.
    #[error("Failed to authenticate: {0}")]
    Refused(http::StatusCode),
    /// An answer without a token.
    #[error("the answer to the login has no token: {0}")]
    NoToken(String),
}

/// How to log in.
#[derive(Debug)]
pub(super) struct Login {
    endpoint: String,
    user: String,
    proof: Proof,
}

#[derive(Debug)]
enum Proof {
    Password(Secret),
    /// A signed token: it never changes.
    Token(Secret),
}

#[derive(Deserialize)]
struct SecretText {
    uid: Option<String>,
    login_endpoint: Option<Value>,
    private_key: Option<String>,
    password: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
}

impl Login {
    /// Reads the secret. The endpoint of the flag wins over the secret's.
    pub(super) fn new(secret: &str, endpoint: Option<&str>) -> Result<Self, LoginError> {
        let secret: SecretText = serde_json::from_str(secret).map_err(LoginError::Secret)?;
        let user = secret.uid.ok_or(LoginError::NoUser)?;
        let endpoint = endpoint
            .map(str::to_owned)
            .or_else(|| secret.login_endpoint?.as_str().map(str::to_owned))
            .ok_or(LoginError::NoEndpoint)?;
        let proof = match (secret.private_key, secret.password) {
            (Some(key), _) => Proof::Token(Secret::new(signed_token(&user, &key)?)),
            (None, Some(password)) => Proof::Password(Secret::new(password)),
            (None, None) => return Err(LoginError::NoProof),
        };
        Ok(Self {
            endpoint,
            user,
            proof,
        })
    }

    /// Logs in, and returns what `Authorization` is to say from now on.
    pub(super) async fn authorization(
        &self,
        client: &reqwest::Client,
    ) -> Result<HeaderValue, LoginError> {
        let unreachable = |reason: reqwest::Error| {
            LoginError::Unreachable(self.endpoint.clone(), crate::probe::chain(&reason))
        };
        let response = client
            .post(&self.endpoint)
            .header(CONTENT_TYPE, "application/json")
            .body(self.body())
            .send()
            .await
            .map_err(unreachable)?;
        if response.status() != http::StatusCode::OK {
            return Err(LoginError::Refused(response.status()));
        }
        let body = response.bytes().await.map_err(unreachable)?;
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|reason| LoginError::NoToken(reason.to_string()))?;
        let token = answer
            .token
            .ok_or_else(|| LoginError::NoToken("no such key".to_owned()))?;
        let mut value = HeaderValue::try_from(format!("token={token}"))
            .map_err(|reason| LoginError::NoToken(reason.to_string()))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Keys in the original's order, but with their values escaped.
    fn body(&self) -> String {
        let (key, proof) = match &self.proof {
            Proof::Password(password) => ("password", password),
            Proof::Token(token) => ("token", token),
        };
        let text = |text: &str| Value::from(text).to_string();
        format!(
            "{{\"uid\":{},\"{key}\":{}}}",
            text(&self.user),
            text(proof.reveal())
        )
    }
}

fn signed_token(user: &str, key: &str) -> Result<String, LoginError> {
    let unusable = |reason: &dyn std::fmt::Display| LoginError::Key(reason.to_string());
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|reason| unusable(&reason))?;
    let key = any_supported_type(&key).map_err(|reason| unusable(&reason))?;
    let signer = key
        .choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256])
        .ok_or_else(|| unusable(&"it is no RSA key"))?;
    let claims = format!("{{\"uid\": {}}}", Value::from(user));
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(JWT_HEADER),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let signature = signer
        .sign(message.as_bytes())
        .map_err(|reason| unusable(&reason))?;
    Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_secret_lacks_is_said() {
        let f = |secret: &str, endpoint: Option<&str>, part: &str| {
            let error = Login::new(secret, endpoint).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        f("nope", None, "Failed to parse");
        f("{}", None, "'uid'");
        f(r#"{"uid":"u"}"#, None, "'login_endpoint'");
        f(
            r#"{"uid":"u","login_endpoint":1}"#,
            None,
            "'login_endpoint'",
        );
        f(r#"{"uid":"u"}"#, Some("http://l"), "neither");
        f(
            r#"{"uid":"u","private_key":"bad"}"#,
            Some("http://l"),
            "private_key",
        );
    }

    #[test]
    fn values_are_escaped() {
        let login = Login::new(r#"{"uid":"a\"b","password":"p"}"#, Some("http://l")).unwrap();
        assert_eq!(login.body(), r#"{"uid":"a\"b","password":"p"}"#);
    }
}
