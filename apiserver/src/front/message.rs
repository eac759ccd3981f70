//! What is wrong with a message before anything in it is believed: two hosts, two lengths, or a browser's other site.
//!
//! A message that two readers could take for two different requests is refused (smuggling, faults A13), and so is a
//! change that a web page of another site makes with the certificate in its visitor's browser (A18). Pure.

use drover_api::status::ApiError;
use http::{HeaderMap, Uri, Version, header, request::Parts};

/// Checks a request from a socket.
///
/// # Errors
/// 400 for ambiguous framing or hosts, 403 for a change or an upgrade that comes from another site's page.
pub(super) fn check(parts: &Parts) -> Result<(), ApiError> {
    let headers = &parts.headers;
    if headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH) {
        return Err(ApiError::bad_request("a request has either Content-Length or Transfer-Encoding, not both"));
    }
    let host = host(&parts.uri, parts.version, headers)?;
    if changes(parts) && is_cross_site(headers, &host) {
        return Err(ApiError::new(403, "Forbidden", "changes from a web page of another site are refused"));
    }
    Ok(())
}

/// Returns the one host that a request is for.
fn host(uri: &Uri, version: Version, headers: &HeaderMap) -> Result<String, ApiError> {
    let mut stated = headers.get_all(header::HOST).iter();
    let header = stated.next().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    if stated.next().is_some() {
        return Err(ApiError::bad_request("a request has one Host header"));
    }
    let target = uri.authority().map(|authority| authority.as_str().to_owned());
    match (target, header) {
        (Some(target), Some(header)) if !target.eq_ignore_ascii_case(&header) => {
            Err(ApiError::bad_request("the request target and the Host header name different hosts"))
        }
        (Some(host), _) | (None, Some(host)) => Ok(host),
        (None, None) if version == Version::HTTP_11 => Err(ApiError::bad_request("a request has a Host header")),
        (None, None) => Ok(String::new()),
    }
}

/// Whether the request may change anything or take the connection over.
fn changes(parts: &Parts) -> bool {
    !parts.method.is_safe() || parts.headers.contains_key(header::UPGRADE)
}

/// Browsers say where a request comes from, other clients do not: by `Sec-Fetch-Site`, old ones by `Origin` alone.
fn is_cross_site(headers: &HeaderMap, host: &str) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return !matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let origin = String::from_utf8_lossy(origin.as_bytes());
    origin.split_once("://").is_none_or(|(_, authority)| !same_host(authority, host))
}

/// Compares two authorities; the port that a scheme implies may be left out.
fn same_host(one: &str, other: &str) -> bool {
    let plain = |authority: &str| {
        let lower = authority.to_ascii_lowercase();
        lower.strip_suffix(":443").map_or_else(|| lower.clone(), str::to_owned)
    };
    plain(one) == plain(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Method or target, headers, code.
    type Row = (&'static str, &'static [(&'static str, &'static str)], u16);

    fn told(method: &str, uri: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap().into_parts().0).map_or_else(|error| error.code, |()| 200)
    }

    #[test]
    fn a_message_that_could_mean_two_is_refused() {
        let table: [Row; 7] = [
            ("/api", &[("host", "a:1")], 200),
            ("/api", &[], 400),
            ("/api", &[("host", "a"), ("host", "a")], 400),
            ("https://a:1/api", &[("host", "a:1")], 200),
            ("https://a:1/api", &[], 200),
            ("https://a:1/api", &[("host", "b:1")], 400),
            ("/api", &[("host", "a"), ("content-length", "3"), ("transfer-encoding", "chunked")], 400),
        ];
        for (uri, headers, expected) in table {
            assert_eq!(told("GET", uri, headers), expected, "{uri} {headers:?}");
        }
    }

    #[test]
    fn a_page_of_another_site_changes_nothing_and_opens_no_socket() {
        let table: [Row; 9] = [
            ("POST", &[], 200),
            ("POST", &[("sec-fetch-site", "cross-site")], 403),
            ("DELETE", &[("sec-fetch-site", "same-site")], 403),
            ("POST", &[("sec-fetch-site", "same-origin"), ("origin", "http://localhost:8001")], 200),
            ("POST", &[("origin", "https://evil.example")], 403),
            ("POST", &[("origin", "null")], 403),
            ("POST", &[("origin", "https://A:1")], 200),
            ("GET", &[("origin", "https://evil.example")], 200),
            ("GET", &[("origin", "https://evil.example"), ("upgrade", "websocket")], 403),
        ];
        for (method, headers, expected) in table {
            let mut all = vec![("host", "a:1")];
            all.extend_from_slice(headers);
            assert_eq!(told(method, "/api/v1/pods", &all), expected, "{method} {headers:?}");
        }
    }
}
