//! Requests of the API server as values.

use http::Method;
use jiff::{SignedDuration, Timestamp};

use super::reply::Failure;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Logs { target: Target, options: LogQuery },
    Exec { target: Target, command: Vec<String>, streams: Streams },
    Attach { target: Target, streams: Streams },
    PortForward { pod: PodName, port: u16 },
    Stats,
}

/// A pod, by name and, where the caller knows it, uid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodName {
    pub namespace: String,
    pub name: String,
    pub uid: Option<String>,
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub pod: PodName,
    pub container: String,
}

/// Which part of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct LogQuery {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub since: Option<Timestamp>,
    pub tail_lines: Option<u64>,
    pub limit_bytes: Option<u64>,
}

/// Which streams to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// Reads a request line. `now` is what `sinceSeconds` counts back from.
pub(super) fn parse(method: &Method, path: &str, query: &str, now: Timestamp) -> Result<Route, Failure> {
    let query = Query::parse(query)?;
    let parts: Vec<String> = path.split('/').skip(1).map(decode).collect::<Result<_, _>>()?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match (method.as_str(), parts.as_slice()) {
        ("GET", ["v1", "logs", namespace, name, container]) => {
            let target = query.target(namespace, name, container);
            Ok(Route::Logs { target, options: query.log_options(now)? })
        }
        ("POST", ["v1", "exec", namespace, name, container]) => {
            let command = query.all("command");
            if command.is_empty() {
                return Err(Failure::bad_request("you must specify at least 1 command for the container"));
            }
            let streams = query.streams()?;
            Ok(Route::Exec { target: query.target(namespace, name, container), command, streams })
        }
        ("POST", ["v1", "attach", namespace, name, container]) => {
            Ok(Route::Attach { target: query.target(namespace, name, container), streams: query.streams()? })
        }
        ("POST", ["v1", "portforward", namespace, name]) => {
            let port = query.get("port").and_then(|text| text.parse().ok()).filter(|port| *port > 0);
            let port = port.ok_or_else(|| Failure::bad_request("port must be a number from 1 to 65535"))?;
            Ok(Route::PortForward { pod: query.pod(namespace, name), port })
        }
        ("GET", ["v1", "stats"]) => Ok(Route::Stats),
        _ => Err(Failure::not_found(format!("the agent does not serve {method} {path}"))),
    }
}

struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Result<Self, Failure> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(&key.replace('+', " "))?, decode(&value.replace('+', " "))?))
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    fn all(&self, key: &str) -> Vec<String> {
        self.0.iter().filter(|(name, _)| name == key).map(|(_, value)| value.clone()).collect()
    }

    fn flag(&self, key: &str) -> Result<bool, Failure> {
        match self.get(key) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(other) => Err(Failure::bad_request(format!("{key}: invalid value {other:?}: must be true or false"))),
        }
    }

    fn number(&self, key: &str, least: i64) -> Result<Option<i64>, Failure> {
        let Some(text) = self.get(key) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| *number >= least);
        let problem = || Failure::bad_request(format!("{key}: invalid value {text:?}: must be at least {least}"));
        number.map(Some).ok_or_else(problem)
    }

    fn pod(&self, namespace: &str, name: &str) -> PodName {
        PodName { namespace: namespace.to_owned(), name: name.to_owned(), uid: self.get("uid").map(str::to_owned) }
    }

    fn target(&self, namespace: &str, name: &str, container: &str) -> Target {
        Target { pod: self.pod(namespace, name), container: container.to_owned() }
    }

    fn streams(&self) -> Result<Streams, Failure> {
        let streams = Streams {
            stdin: self.flag("stdin")?,
            stdout: self.flag("stdout")?,
            stderr: self.flag("stderr")?,
            tty: self.flag("tty")?,
        };
        if !streams.stdin && !streams.stdout && !streams.stderr {
            return Err(Failure::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
        }
        Ok(streams)
    }

    fn log_options(&self, now: Timestamp) -> Result<LogQuery, Failure> {
        let since_secs = self.number("sinceSeconds", 1)?;
        let since_secs =
            since_secs.map(|secs| now.checked_sub(SignedDuration::from_secs(secs)).unwrap_or(Timestamp::MIN));
        let since_time = match self.get("sinceTime") {
            None => None,
            Some(text) => {
                let problem = |_| Failure::bad_request(format!("sinceTime: invalid value {text:?}: not a time"));
                Some(text.parse::<Timestamp>().map_err(problem)?)
            }
        };
        let unsigned = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
        Ok(LogQuery {
            follow: self.flag("follow")?,
            previous: self.flag("previous")?,
            timestamps: self.flag("timestamps")?,
            since: since_secs.or(since_time),
            tail_lines: unsigned(self.number("tailLines", 0)?),
            limit_bytes: unsigned(self.number("limitBytes", 1)?),
        })
    }
}

fn decode(text: &str) -> Result<String, Failure> {
    let problem = || Failure::bad_request(format!("{text:?} is not percent-encoded UTF-8"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = after;
            continue;
        }
        let digits = after.get(..2).filter(|pair| pair.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|pair| std::str::from_utf8(pair).ok()).ok_or_else(problem)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| problem())?);
        rest = after.get(2..).unwrap_or_default();
    }
    String::from_utf8(bytes).map_err(|_| problem())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(method: &str, path: &str, query: &str) -> Result<Route, Failure> {
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        parse(&method.parse().unwrap(), path, query, now)
    }

    fn target() -> Target {
        let pod = PodName { namespace: "ns".to_owned(), name: "web".to_owned(), uid: None };
        Target { pod, container: "app".to_owned() }
    }

    #[test]
    fn every_route_is_read_with_its_options() {
        let options = LogQuery {
            follow: true,
            timestamps: true,
            since: Some("2026-01-02T03:03:05Z".parse().unwrap()),
            tail_lines: Some(0),
            limit_bytes: Some(9),
            previous: false,
        };
        let query = "follow=true&timestamps=1&sinceSeconds=60&tailLines=0&limitBytes=9&previous=false";
        let logs = Route::Logs { target: target(), options };
        assert_eq!(parsed("GET", "/v1/logs/ns/web/app", query).unwrap(), logs);

        let command = vec!["sh".to_owned(), "-c".to_owned(), "a b&c=é+".to_owned()];
        let streams = Streams { stdout: true, ..Default::default() };
        let exec = Route::Exec { target: target(), command, streams };
        let query = "command=sh&command=-c&command=a+b%26c%3D%C3%A9%2B&stdout=true&stdin=";
        assert_eq!(parsed("POST", "/v1/exec/ns/web/app", query).unwrap(), exec);

        let streams = Streams { stdin: true, tty: true, ..Default::default() };
        let attach = Route::Attach { target: target(), streams };
        assert_eq!(parsed("POST", "/v1/attach/ns/web/app", "stdin=true&tty=true").unwrap(), attach);

        let pod = PodName { uid: Some("u-1".to_owned()), ..target().pod };
        let forward = Route::PortForward { pod, port: 80 };
        assert_eq!(parsed("POST", "/v1/portforward/ns/web", "port=80&uid=u-1").unwrap(), forward);
        assert_eq!(parsed("GET", "/v1/stats", "").unwrap(), Route::Stats);
    }

    #[test]
    fn bad_requests_get_a_sentence_with_the_field() {
        let table = [
            ("GET", "/v1/logs/ns/web/app", "tailLines=-1", 400, "tailLines"),
            ("GET", "/v1/logs/ns/web/app", "limitBytes=0", 400, "limitBytes"),
            ("GET", "/v1/logs/ns/web/app", "sinceSeconds=x", 400, "sinceSeconds"),
            ("GET", "/v1/logs/ns/web/app", "sinceTime=yesterday", 400, "sinceTime"),
            ("GET", "/v1/logs/ns/web/app", "follow=maybe", 400, "follow"),
            ("POST", "/v1/exec/ns/web/app", "stdout=true", 400, "at least 1 command"),
            ("POST", "/v1/exec/ns/web/app", "command=ls", 400, "at least 1 of stdin"),
            ("POST", "/v1/exec/ns/web/app", "command=%ff&stdout=1", 400, "percent-encoded"),
            ("POST", "/v1/exec/ns/web/app", "command=%+1&stdout=1", 400, "percent-encoded"),
            ("POST", "/v1/portforward/ns/web", "port=70000", 400, "port"),
            ("POST", "/v1/portforward/ns/web", "port=0", 400, "port"),
            ("POST", "/v1/logs/ns/web/app", "", 404, "does not serve"),
            ("GET", "/etc/passwd", "", 404, "does not serve"),
        ];
        for (method, path, query, code, words) in table {
            let failure = parsed(method, path, query).unwrap_err();
            assert_eq!(failure.code.as_u16(), code, "{path}?{query}");
            assert!(failure.message.contains(words), "{}", failure.message);
        }
    }
}
