//! The proxy of a request, from the environment, as Python's `requests` and curl choose it.
//!
//! `https_proxy` is for https addresses, `http_proxy` for http addresses, and `all_proxy` for both. Every name may also
//! be in upper case; the lower-case name takes precedence. Hosts in `no_proxy` with their subdomains, and this machine,
//! are reached directly.

use std::fmt;
use std::net::IpAddr;

use ureq::Proxy;
use ureq::http::Uri;

/// A proxy for reaching a server. Its `Display` leaves out the password.
#[derive(Debug, Clone)]
pub struct Via {
    /// The proxy.
    pub proxy: Proxy,
    shown: String,
    variable: String,
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "through the proxy {} ({})", self.shown, self.variable)
    }
}

/// Returns the proxy that the environment names for an address; `None` for a direct connection.
///
/// # Errors
/// Fails if the variable is not the address of a proxy; the error names the variable.
pub fn proxy_of(address: &Uri) -> Result<Option<Via>, String> {
    chosen(address, &|name| std::env::var(name).ok())
}

/// Returns true for an address of this machine.
pub fn is_loopback(address: &Uri) -> bool {
    let host = host(address);
    host.parse::<IpAddr>().map_or_else(|_| host == "localhost", |number| number.is_loopback())
}

/// Returns the proxy for an address, as [`proxy_of`] does, from these variables.
pub(crate) fn chosen(
    address: &Uri,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Via>, String> {
    let set = |name: String| {
        let name = if variable(&name).is_some() { name } else { name.to_uppercase() };
        let value = variable(&name)?.trim().to_owned();
        (!value.is_empty()).then_some((name, value))
    };
    let own = set(format!("{}_proxy", address.scheme_str().unwrap_or_default()));
    let Some((variable, value)) = own.or_else(|| set("all_proxy".to_owned())) else { return Ok(None) };
    let exempt = set("no_proxy".to_owned()).map(|(_, list)| list).unwrap_or_default();
    if is_loopback(address) || exempt.split([',', ' ']).any(|entry| is_of(address, entry)) {
        return Ok(None);
    }
    let (scheme, place) = value.split_once("://").unwrap_or(("http", value.as_str()));
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let shown = format!("{scheme}://{}", place.trim_end_matches('/'));
    match Proxy::new(&value) {
        Ok(proxy) => Ok(Some(Via { proxy, shown, variable })),
        Err(_) => Err(format!(
            "{variable} is {shown:?}; expected the address of a proxy: http://HOST:PORT, https:// or socks5://"
        )),
    }
}

/// Returns true if an entry of `no_proxy` matches an address. An entry is its host or a parent domain, with this port
/// or without one; a range of addresses such as 10.0.0.0/8; or `*`.
fn is_of(address: &Uri, entry: &str) -> bool {
    let host = host(address);
    if let (Ok(number), Some((base, bits))) = (host.parse(), entry.split_once('/')) {
        return is_within(number, base, bits);
    }
    let port = address.port_u16().unwrap_or(if address.scheme_str() == Some("https") { 443 } else { 80 });
    let (name, own) = match entry.rsplit_once(':') {
        // The colons of a plain IPv6 address separate no port.
        Some((name, own)) if !name.contains(':') || name.ends_with(']') => (name, Some(own)),
        _ => (entry, None),
    };
    let name = name.trim_matches(['[', ']']).trim_start_matches('*').trim_start_matches('.');
    let below = || {
        host.strip_suffix(name.to_lowercase().as_str())
            .is_some_and(|rest| rest.is_empty() || (rest.ends_with('.') && host.parse::<IpAddr>().is_err()))
    };
    let is_any = entry == "*";
    is_any || (!name.is_empty() && own.is_none_or(|own| own.parse::<u16>() == Ok(port)) && below())
}

/// Returns true if an address is in the range of those that share the first `bits` bits with `base`.
fn is_within(number: IpAddr, base: &str, bits: &str) -> bool {
    match (number, base.parse(), bits.parse::<u32>()) {
        (IpAddr::V4(number), Ok(IpAddr::V4(base)), Ok(bits @ 0..=32)) => {
            (number.to_bits() ^ base.to_bits()).leading_zeros() >= bits
        }
        (IpAddr::V6(number), Ok(IpAddr::V6(base)), Ok(bits @ 0..=128)) => {
            (number.to_bits() ^ base.to_bits()).leading_zeros() >= bits
        }
        _ => false,
    }
}

/// Returns the host of an address in lower case, without the brackets of an IPv6 address.
fn host(address: &Uri) -> String {
    address.host().unwrap_or_default().trim_matches(['[', ']']).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn found(address: &str, set: &[(&str, &str)]) -> Result<Option<String>, String> {
        let variable =
            |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Ok(chosen(&uri(address), &variable)?.map(|via| via.to_string()))
    }

    /// Protects: the proxy is that of the address's scheme, else that of all; lower-case names come first, and an empty
    /// one switches the proxy off, as in `requests`.
    #[test]
    fn the_scheme_selects_the_proxy() {
        let all =
            [("HTTPS_PROXY", "http://s:1"), ("http_proxy", "http://h:2"), ("ALL_PROXY", "socks5h://a:3")];
        for (address, set, expected) in [
            ("https://hf.co/a", &all[..], Some("http://s:1 (HTTPS_PROXY)")),
            ("http://hf.co/a", &all[..], Some("http://h:2 (http_proxy)")),
            ("http://hf.co/a", &all[..1], None),
            ("https://hf.co/a", &all[1..2], None),
            ("https://hf.co/a", &all[1..], Some("socks5h://a:3 (ALL_PROXY)")),
            (
                "http://hf.co/a",
                &[("HTTP_PROXY", "h:2"), ("http_proxy", "i:2")],
                Some("http://i:2 (http_proxy)"),
            ),
            ("http://hf.co/a", &[("HTTP_PROXY", "h:2"), ("http_proxy", "")], None),
            ("http://hf.co/a", &[("HTTP_PROXY", " h:2 ")], Some("http://h:2 (HTTP_PROXY)")),
            ("http://hf.co/a", &[], None),
        ] {
            let expected = expected.map(|shown| format!("through the proxy {shown}"));
            assert_eq!(found(address, set), Ok(expected), "{address} {set:?}");
        }
    }

    /// Protects: no message has the password of a proxy, and text that is not an address is refused, naming its
    /// variable.
    #[test]
    fn passwords_are_not_shown() {
        let with = |value| found("http://hf.co", &[("all_proxy", value)]);
        let shown = "through the proxy http://proxy:8080 (all_proxy)";
        assert_eq!(with("http://me:p%40ss@proxy:8080/").unwrap().as_deref(), Some(shown));
        assert_eq!(with("me:secret@proxy:8080").unwrap().as_deref(), Some(shown));
        let said = with("ftp://me:secret@proxy").unwrap_err();
        assert!(said.starts_with("all_proxy is \"ftp://proxy\"; expected"), "{said}");
        assert!(with("http://").is_err());
    }

    /// Protects: this machine and the hosts of `no_proxy` are reached directly, other hosts of similar names are not.
    #[test]
    fn some_hosts_are_reached_directly() {
        let list =
            "corp.org, .lab.org,*.wild.org api.org:8443,10.0.0.0/8,192.168.1.7,8.9,fd00::/8,[fd11::1]:90";
        let with =
            |address: &str, list: &str| found(address, &[("all_proxy", "p:1"), ("NO_PROXY", list)]).unwrap();
        for own in ["http://localhost:80", "http://127.8.9.1", "http://[::1]:8", "https://LOCALHOST/a"] {
            assert_eq!(with(own, ""), None, "{own}");
        }
        for direct in [
            "http://corp.org",
            "https://A.Corp.org:99/x",
            "http://x.lab.org",
            "http://a.wild.org",
            "https://api.org:8443",
            "http://10.2.3.4:8000",
            "http://192.168.1.7",
            "http://[fd12::5]",
            "http://[fd11::1]:90",
        ] {
            assert_eq!(with(direct, list), None, "{direct}");
            assert_eq!(with(direct, "*"), None, "{direct}");
            assert!(with(direct, "").is_some(), "{direct}");
        }
        for other in [
            "http://notcorp.org",
            "http://corp.org.evil.net",
            "https://api.org",
            "http://11.2.3.4",
            "http://192.168.1.70",
            "http://6.7.8.9",
            "http://localhost.org",
            "http://127.0.0.1.evil.org",
            "http://[fe00::5]",
        ] {
            assert!(with(other, list).is_some(), "{other}");
        }
    }

    /// Protects: only numbers of the loopback interface and its name count as this machine.
    #[test]
    fn this_machine_is_recognised() {
        for own in ["http://localhost:80", "http://127.0.0.1:9", "http://127.8.9.1", "http://[::1]:8"] {
            assert!(is_loopback(&uri(own)), "{own}");
        }
        for other in ["http://mirror", "http://10.0.0.1", "http://127.0.0.1.evil.org", "http://localhost.org"]
        {
            assert!(!is_loopback(&uri(other)), "{other}");
        }
    }
}
