//! How an Ingress of ours is served, in its annotations: one place that reads them, for whoever refuses and whoever serves.

use std::fmt;

/// The label of the nodes that serve Ingresses.
pub const NODE_ROLE: &str = "node-role.kubernetes.io/ingress";
/// The controller that IngressClasses of ours name.
pub const CONTROLLER: &str = "drover.dev/haproxy";
/// Where an Ingress named its class before there were IngressClasses.
pub const OLD_CLASS: &str = "kubernetes.io/ingress.class";
/// The annotation in which such a node says [`SERVING`], or why it does not serve.
pub const STATE: &str = "drover.dev/ingress";
/// What it says when all is well.
pub const SERVING: &str = "serving";

/// What our annotations begin with.
const PREFIX: &str = "ingress.drover.dev/";
const KEYS: [&str; 9] = [
    "balance",
    "health-check",
    "https-redirect",
    "max-body",
    "redirect",
    "rewrite",
    "timeout",
    "timeout-connect",
    "timeout-tunnel",
];
/// A day: more is a mistake.
const SECONDS_MAX: u32 = 86_400;

/// Which server gets the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Balance {
    /// One after another.
    #[default]
    RoundRobin,
    /// The one with the fewest connections.
    LeastConn,
    /// Any.
    Random,
    /// Always the same for one client address, while servers stay.
    Source,
}

/// What an Ingress asks for beside its rules. `None` is the default of whoever serves.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Options {
    /// `balance`.
    pub balance: Balance,
    /// `health-check`: the path that a server must answer with 2xx or 3xx; without, it must accept connections.
    pub health_check: Option<String>,
    /// `https-redirect: "false"`: hosts with TLS are served without, too.
    pub plain_http: bool,
    /// `max-body`: the longest body of a request, in bytes.
    pub body_bytes_max: Option<u64>,
    /// `redirect`: where requests are sent instead.
    pub redirect: Option<String>,
    /// `rewrite`: what stands for the matched path when the request reaches the server.
    pub rewrite: Option<String>,
    /// `timeout`: seconds that a server may take to answer.
    pub timeout_secs: Option<u32>,
    /// `timeout-connect`: seconds that a connection may take.
    pub connect_secs: Option<u32>,
    /// `timeout-tunnel`: seconds that a WebSocket may be silent.
    pub tunnel_secs: Option<u32>,
}

/// An annotation that says nothing we know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The annotation.
    pub key: String,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RoundRobin => "roundrobin",
            Self::LeastConn => "leastconn",
            Self::Random => "random",
            Self::Source => "source",
        })
    }
}

impl Options {
    /// Reads the annotations of an Ingress; those of others are nothing to us. What is wrong counts as not given.
    pub fn read<'a>(annotations: impl Iterator<Item = (&'a str, &'a str)>) -> (Self, Vec<Mistake>) {
        let (mut options, mut mistakes) = (Self::default(), Vec::new());
        for (key, value) in annotations {
            if let Some(Err(why)) = key.strip_prefix(PREFIX).map(|word| options.set(word, value)) {
                mistakes.push(Mistake { key: key.to_owned(), why });
            }
        }
        (options, mistakes)
    }

    fn set(&mut self, word: &str, value: &str) -> Result<(), String> {
        match word {
            "balance" => {
                let all = [Balance::RoundRobin, Balance::LeastConn, Balance::Random, Balance::Source];
                let found = all.into_iter().find(|balance| balance.to_string() == value);
                self.balance = found.ok_or("must be roundrobin, leastconn, random or source")?;
            }
            "health-check" => self.health_check = Some(path(value)?),
            "https-redirect" => {
                self.plain_http = match value {
                    "true" => false,
                    "false" => true,
                    _ => return Err("must be \"true\" or \"false\"".to_owned()),
                };
            }
            "max-body" => self.body_bytes_max = Some(bytes(value)?),
            "redirect" => self.redirect = Some(target(value)?),
            "rewrite" => self.rewrite = Some(path(value)?),
            "timeout" => self.timeout_secs = Some(seconds(value)?),
            "timeout-connect" => self.connect_secs = Some(seconds(value)?),
            "timeout-tunnel" => self.tunnel_secs = Some(seconds(value)?),
            _ => return Err(format!("is not known: there are {PREFIX}{{{}}}", KEYS.join(", "))),
        }
        Ok(())
    }
}

/// Whether a path can stand in a request and in the configuration of a load balancer. The empty one can.
pub fn is_plain_path(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && !br#""\#?"#.contains(&byte))
}

fn path(text: &str) -> Result<String, String> {
    if text.starts_with('/') && is_plain_path(text) {
        return Ok(text.to_owned());
    }
    Err("must be an absolute path of visible ASCII characters without '\"', '\\', '#' and '?'".to_owned())
}

fn target(text: &str) -> Result<String, String> {
    let begins = ["/", "http://", "https://"].iter().any(|start| text.starts_with(start));
    if begins && text.bytes().all(|byte| byte.is_ascii_graphic() && !br#""\"#.contains(&byte)) {
        return Ok(text.to_owned());
    }
    Err("must begin with http://, https:// or / and consist of visible ASCII characters without '\"' and '\\'"
        .to_owned())
}

/// Reads `90s`, `5m`, `1h`.
fn seconds(text: &str) -> Result<u32, String> {
    let units = [('s', 1), ('m', 60), ('h', 3600)];
    let read = units.iter().find_map(|(unit, factor)| {
        let number = text.strip_suffix(*unit)?;
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        number.parse::<u32>().ok().filter(|_| digits)?.checked_mul(*factor)
    });
    read.filter(|seconds| (1..=SECONDS_MAX).contains(seconds))
        .ok_or_else(|| "must be a duration from 1s to 24h such as 30s, 5m or 1h".to_owned())
}

/// Reads `4096`, `16k`, `10Mi`, as all quantities are written.
fn bytes(text: &str) -> Result<u64, String> {
    let quantity: Option<crate::quantity::Quantity> = text.parse().ok();
    quantity
        .and_then(|quantity| u64::try_from(quantity.value()).ok())
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "must be a quantity of bytes such as 64k or 10Mi".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(word: &str, value: &str) -> Result<Options, String> {
        let key = format!("{PREFIX}{word}");
        let (options, mut mistakes) = Options::read([(key.as_str(), value), ("other.io/x", "y")].into_iter());
        mistakes.pop().map_or(Ok(options), |mistake| Err(mistake.why))
    }

    #[test]
    fn every_annotation_is_read() {
        assert_eq!(read("balance", "leastconn").unwrap().balance, Balance::LeastConn);
        assert_eq!(read("health-check", "/up").unwrap().health_check.as_deref(), Some("/up"));
        assert!(
            read("https-redirect", "false").unwrap().plain_http && !read("https-redirect", "true").unwrap().plain_http
        );
        assert_eq!(read("max-body", "10Mi").unwrap().body_bytes_max, Some(10 << 20));
        assert_eq!(read("redirect", "https://x.org/a?b=c").unwrap().redirect.as_deref(), Some("https://x.org/a?b=c"));
        assert_eq!(read("rewrite", "/v2").unwrap().rewrite.as_deref(), Some("/v2"));
        assert_eq!(read("timeout", "90s").unwrap().timeout_secs, Some(90));
        assert_eq!(read("timeout-connect", "1m").unwrap().connect_secs, Some(60));
        assert_eq!(read("timeout-tunnel", "24h").unwrap().tunnel_secs, Some(86_400));
        assert!(KEYS.iter().all(|key| !read(key, "").unwrap_err().contains("not known")));
    }

    #[test]
    fn what_is_wrong_is_named_and_nothing_else() {
        for (word, value) in [
            ("balance", "fair"),
            ("health-check", "up"),
            ("https-redirect", "no"),
            ("max-body", "-1"),
            ("max-body", "much"),
            ("redirect", "ftp://x"),
            ("redirect", "https://x\r\nSet-Cookie: a"),
            ("rewrite", "/a b"),
            ("rewrite", "/\"\n  http-request deny"),
            ("timeout", "0s"),
            ("timeout", "+5s"),
            ("timeout", "25h"),
            ("timeout", "99999999999s"),
            ("timeout", "5"),
            ("colour", "red"),
        ] {
            assert!(read(word, value).is_err(), "{word}: {value}");
        }
    }
}
