//! Which addresses may be called. Whoever may name an endpoint could otherwise have us call what only we can reach:
//! the cloud's metadata, a database, ourselves (OWASP API7:2023, server-side request forgery).
//!
//! The name is looked up by us and only a checked address is connected to, at each connection: what a name leads to
//! may change between the check and the call.

use std::{
    net::{IpAddr, SocketAddr},
    sync::LazyLock,
    time::Duration,
};

use ipnet::IpNet;
use url::{Host, Url};

use crate::config::Webhooks;

const LONGEST_URL: usize = 1000;
/// For looking up a name while an endpoint is saved.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// IPv4 that is not the public Internet (IANA's special-purpose registry, RFC 6890), and multicast.
static NOT_PUBLIC_V4: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
    networks(&[
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
    ])
});

/// All of IPv6 that is public begins so (RFC 4291); loopback, unique local, link-local, multicast and NAT64 do not.
static PUBLIC_V6: LazyLock<Vec<IpNet>> = LazyLock::new(|| networks(&["2000::/3"]));

/// Except for IETF's own (Teredo among them), documentation and 6to4, which wraps an address of IPv4.
static NOT_PUBLIC_V6: LazyLock<Vec<IpNet>> =
    LazyLock::new(|| networks(&["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"]));

fn networks(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().expect("a network as written above")).collect()
}

/// Whether a call may go to this address.
pub fn may_be_called(config: &Webhooks, address: IpAddr) -> bool {
    // `::ffff:10.0.0.1` connects to 10.0.0.1.
    let address = address.to_canonical();
    let within = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
    within(&config.allowed_networks)
        || match address {
            IpAddr::V4(_) => !within(&NOT_PUBLIC_V4),
            IpAddr::V6(_) => within(&PUBLIC_V6) && !within(&NOT_PUBLIC_V6),
        }
}

/// What a name leads to, as far as it may be called.
pub(super) async fn lookup(config: &Webhooks, host: &str) -> Result<Vec<SocketAddr>, Fault> {
    let found = tokio::net::lookup_host((host, 0)).await.map_err(|_| Fault::Unknown)?;
    let allowed: Vec<_> = found.filter(|address| may_be_called(config, address.ip())).collect();
    if allowed.is_empty() { Err(Fault::Internal) } else { Ok(allowed) }
}

/// Why a host cannot be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("the host cannot be looked up")]
    Unknown,
    #[error("the host leads to an internal address")]
    Internal,
}

/// The address, if it is well formed and as far as it can be told without looking its name up.
pub(super) fn parse(config: &Webhooks, text: &str) -> Result<Url, String> {
    if text.len() > LONGEST_URL {
        return Err(format!("must be at most {LONGEST_URL} characters"));
    }
    let url = Url::parse(text).map_err(|_| "must be an address such as https://shop.example.com/magpie".to_owned())?;
    match url.scheme() {
        "https" => {}
        "http" if config.allow_http => {}
        "http" => return Err("must begin with https://; for development set webhooks.allow_http".into()),
        _ => return Err("must begin with https://".into()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must hold no user name or password; the signature proves who calls".into());
    }
    if url.fragment().is_some() {
        return Err("must not have a part after #".into());
    }
    if literal(&url).is_some_and(|address| !may_be_called(config, address)) {
        return Err(internal());
    }
    Ok(url)
}

/// The address that stands in the URL itself: it is connected to without any lookup.
pub(super) fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

/// The whole check when an endpoint is saved: what is wrong with the address.
pub(super) async fn check(config: &Webhooks, text: &str) -> Result<(), String> {
    let url = parse(config, text)?;
    let Some(Host::Domain(host)) = url.host() else { return Ok(()) };
    match tokio::time::timeout(LOOKUP_TIMEOUT, lookup(config, host)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(Fault::Internal)) => Err(internal()),
        Ok(Err(Fault::Unknown)) | Err(_) => Err(format!("the host {host} cannot be looked up; check its name")),
    }
}

fn internal() -> String {
    "leads to an internal address; use one of the public Internet, or have the operator add its network to \
     webhooks.allowed_networks"
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn config(text: &str) -> Webhooks {
        Config::from_toml(&format!("[webhooks]\n{text}")).expect("a configuration").webhooks
    }

    #[test]
    fn only_the_public_internet_may_be_called() {
        let config = config("");
        for internal in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.31.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.19.0.1",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:a00:1::",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "::127.0.0.1",
        ] {
            assert!(!may_be_called(&config, internal.parse().expect("an address")), "{internal}");
        }
        for public in ["1.1.1.1", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(may_be_called(&config, public.parse().expect("an address")), "{public}");
        }
    }

    #[test]
    fn networks_of_the_operator_may_be_called() {
        let config = config("allowed_networks = [\"10.1.0.0/16\", \"127.0.0.1\"]");
        let may = |text: &str| may_be_called(&config, text.parse().expect("an address"));
        assert!(may("10.1.9.9") && may("127.0.0.1") && may("::ffff:10.1.0.1"));
        assert!(!may("10.2.0.1") && !may("127.0.0.2") && !may("::1"));
        assert!(Config::from_toml("[webhooks]\nallowed_networks = [\"everything\"]\n").is_err());
    }

    #[test]
    fn an_address_in_disguise_is_recognised() {
        let closed = config("");
        for text in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://127.1:8443/x",
        ] {
            assert!(parse(&closed, text).expect_err(text).contains("internal address"), "{text}");
        }
        for text in [
            "",
            "shop.example.com",
            "ftp://shop.example.com/",
            "http://shop.example.com/",
            "https://",
            "file:///etc/passwd",
            "https://user@shop.example.com/",
            "https://:secret@shop.example.com/",
            "https://shop.example.com/#part",
        ] {
            assert!(parse(&closed, text).is_err(), "{text}");
        }
        assert!(parse(&closed, "https://shop.example.com:8443/magpie?from=1").is_ok());
        assert!(parse(&config("allow_http = true"), "http://shop.example.com/").is_ok());
    }
}
