//! Requests to a Hub: its address, the token, and redirections.

use std::io::Read;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use anyhow::{Context, Error, Result, bail, ensure};
use pcrm_rl::proxy::{Via, is_loopback, proxy_of};
use ureq::http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RANGE};
use ureq::http::{HeaderMap, Response, Uri};
use ureq::{Agent, Body, Proxy, SendBody};

use super::environment::{endpoint, token};

/// The largest number of redirections followed.
const REDIRECTIONS: usize = 10;

/// A server that is silent for this long counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client of the Hub named by the environment.
pub struct Client {
    /// One agent for each proxy in use, and for no proxy; each keeps its connections.
    agents: Mutex<Vec<(Option<Proxy>, Agent)>>,
    endpoint: Uri,
    token: Option<String>,
}

/// The response to a request, after redirections.
pub struct Answer {
    /// The response of the host with the content, which may differ from the Hub.
    pub response: Response<Body>,
    /// The headers of the Hub's own last response that names a commit.
    pub own: Option<HeaderMap>,
}

impl Answer {
    /// Returns a header of the final response.
    pub fn header(&self, key: &str) -> Option<&str> {
        header(self.response.headers(), key)
    }

    /// Returns a header of the Hub itself.
    pub fn own_header(&self, key: &str) -> Option<&str> {
        header(self.own.as_ref()?, key)
    }
}

fn header<'a>(headers: &'a HeaderMap, key: &str) -> Option<&'a str> {
    headers.get(key).and_then(|value| value.to_str().ok())
}

impl Client {
    /// Creates a client for `HF_ENDPOINT`. Over plain HTTP to another machine it sends no token and logs a
    /// warning.
    ///
    /// # Errors
    /// Fails if the endpoint is not an address.
    pub fn new() -> Result<Self> {
        let text = endpoint();
        let parsed = text.parse::<Uri>().ok().filter(|uri| {
            uri.host().is_some() && uri.query().is_none() && ["http", "https"].contains(&scheme(uri))
        });
        let endpoint = parsed.with_context(|| {
            format!("HF_ENDPOINT is {text:?}; expected an address such as https://huggingface.co")
        })?;
        let mut token = token();
        if scheme(&endpoint) == "http" && !is_loopback(&endpoint) {
            static SAID: Once = Once::new();
            let withheld = token.take().map_or("", |_| "; the token is not sent");
            SAID.call_once(|| {
                tracing::warn!(
                    "HF_ENDPOINT is {text}: over plain http, anyone on the network path can read and change \
                     what is fetched{withheld}; use https"
                );
            });
        }
        Ok(Self { agents: Mutex::default(), endpoint, token })
    }

    /// Returns the agent for an address, and the proxy that it uses, if any.
    ///
    /// # Errors
    /// Fails if the environment names an invalid proxy.
    fn agent(&self, to: &Uri) -> Result<(Agent, Option<Via>)> {
        let via = proxy_of(to).map_err(Error::msg)?;
        let proxy = via.as_ref().map(|via| via.proxy.clone());
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, agent)) = agents.iter().find(|(known, _)| *known == proxy) {
            return Ok((agent.clone(), via));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Redirections are followed here, since headers are trusted by the host that sends them.
            .max_redirects(0)
            .user_agent(concat!("pcrm/", env!("CARGO_PKG_VERSION")))
            // Lengths must be those of the content.
            .accept_encoding("identity")
            .timeout_connect(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .proxy(proxy.clone())
            .build();
        let agent = Agent::from(config);
        agents.push((proxy, agent.clone()));
        Ok((agent, via))
    }

    /// Requests a path of the Hub from byte `start` on, and follows redirections. Only the Hub gets the
    /// token.
    ///
    /// # Errors
    /// Fails without an answer, or if redirections do not end, lead from HTTPS to HTTP or are not addresses.
    pub fn get(&self, path: &str, start: u64) -> Result<Answer> {
        let mut at: Uri = format!("{}/{path}", endpoint()).parse().context("an address")?;
        let mut own = None;
        for _ in 0..=REDIRECTIONS {
            let is_own = same_host(&at, &self.endpoint);
            let (agent, via) = self.agent(&at)?;
            let mut request = agent.get(&at);
            if let Some(token) = self.token.as_ref().filter(|_| is_own) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            if start > 0 {
                request = request.header(RANGE, format!("bytes={start}-"));
            }
            let response = answered(request.call(), via.as_ref())?;
            if is_own && response.headers().contains_key("x-repo-commit") {
                own = Some(response.headers().clone());
            }
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer { response, own });
            }
            at = redirected(&at, header(response.headers(), LOCATION.as_str()).unwrap_or_default())?;
        }
        bail!("more than {REDIRECTIONS} redirections")
    }

    /// Returns true if requests to the Hub carry a token.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Posts a body to a path of the Hub, with the token; does not follow redirects.
    ///
    /// # Errors
    /// Fails if the Hub does not answer.
    pub fn post(&self, path: &str, kinds: (&str, &str), body: &[u8]) -> Result<Response<Body>> {
        let address: Uri = format!("{}/{path}", endpoint()).parse().context("an address")?;
        self.post_to(&address, kinds, body)
    }

    /// Posts a body to an address from the Hub; `kinds` are the media types of the body and of the answer.
    /// The token is sent only to the Hub's own host.
    ///
    /// # Errors
    /// Fails if the server does not answer.
    pub fn post_to(&self, address: &Uri, kinds: (&str, &str), body: &[u8]) -> Result<Response<Body>> {
        let (agent, via) = self.agent(address)?;
        let mut request = agent.post(address).header(CONTENT_TYPE, kinds.0).header(ACCEPT, kinds.1);
        if let Some(token) = self.token.as_ref().filter(|_| same_host(address, &self.endpoint)) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        answered(request.send(body), via.as_ref())
    }

    /// Puts `size` bytes to an address from the Hub, with the headers from the Hub and without the token.
    ///
    /// # Errors
    /// Fails if the server does not answer or the content cannot be read.
    pub fn put(
        &self,
        address: &Uri,
        headers: &[(String, String)],
        content: &mut dyn Read,
        size: u64,
    ) -> Result<Response<Body>> {
        let (agent, via) = self.agent(address)?;
        let mut request = agent.put(address).header(CONTENT_LENGTH, size);
        for (key, value) in headers {
            request = request.header(key, value);
        }
        answered(request.send(SendBody::from_reader(content)), via.as_ref())
    }

    /// Parses an upload address from the Hub. If the Hub uses https, the address must use it too.
    ///
    /// # Errors
    /// Fails if the text is not an address or drops TLS.
    pub fn given(&self, text: &str) -> Result<Uri> {
        redirected(&self.endpoint, text)
    }
}

/// Returns an answer; the error of a request names the proxy that it went through.
fn answered(answer: Result<Response<Body>, ureq::Error>, via: Option<&Via>) -> Result<Response<Body>> {
    match via {
        Some(via) => answer.with_context(|| via.to_string()),
        None => Ok(answer?),
    }
}

/// Returns the address that a response to `at` redirects to.
fn redirected(at: &Uri, location: &str) -> Result<Uri> {
    let target = location.parse::<Uri>().ok();
    let target = match target {
        Some(uri) if uri.host().is_none() && location.starts_with('/') => {
            let mut parts = at.clone().into_parts();
            parts.path_and_query = uri.into_parts().path_and_query;
            Uri::from_parts(parts).ok()
        }
        other => other.filter(|uri| uri.host().is_some()),
    };
    let target = target.filter(|uri| ["http", "https"].contains(&scheme(uri)));
    let target = target.with_context(|| format!("a redirection to {location:?}, which is not an address"))?;
    ensure!(scheme(at) == "http" || scheme(&target) == "https", "a redirection from https to {target}");
    Ok(target)
}

fn scheme(uri: &Uri) -> &str {
    uri.scheme_str().unwrap_or_default()
}

fn same_host(a: &Uri, b: &Uri) -> bool {
    let port = |uri: &Uri| uri.port_u16().unwrap_or(if scheme(uri) == "https" { 443 } else { 80 });
    let host = |uri: &Uri| uri.host().unwrap_or_default().to_ascii_lowercase();
    scheme(a) == scheme(b) && host(a) == host(b) && port(a) == port(b)
}

/// Percent-encodes a text for an address path: all bytes but letters, digits, `-._~` and those of `kept`.
pub fn encoded(text: &str, kept: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.contains(&byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// Protects: the token goes only to the same scheme, host and port.
    #[test]
    fn hosts_are_distinguished() {
        assert!(same_host(&uri("https://HF.co/a"), &uri("https://hf.co:443")));
        for other in ["http://hf.co", "https://hf.co:444", "https://hf.co.evil.org", "https://evil.org/hf.co"]
        {
            assert!(!same_host(&uri("https://hf.co"), &uri(other)), "{other}");
        }
    }

    /// Protects: a redirection stays on the host or names one, and never downgrades from TLS.
    #[test]
    fn redirections_lead_to_addresses() {
        let at = uri("https://hf.co/a/b");
        let to = |location| redirected(&at, location).map(|uri| uri.to_string()).ok();
        assert_eq!(to("/c?d=1").as_deref(), Some("https://hf.co/c?d=1"));
        assert_eq!(to("https://cdn.org/x").as_deref(), Some("https://cdn.org/x"));
        for location in ["http://cdn.org/x", "file:///etc/passwd", "ftp://a/b", "", "c"] {
            assert_eq!(to(location), None, "{location:?}");
        }
        assert!(redirected(&uri("http://localhost/a"), "http://localhost/b").is_ok());
    }

    /// Protects: a file name cannot request another file.
    #[test]
    fn names_are_encoded() {
        assert_eq!(encoded("a/b c?d#e%2f.json", b"/"), "a/b%20c%3Fd%23e%252f.json");
        assert_eq!(encoded("refs/pr/1", b""), "refs%2Fpr%2F1");
    }
}
