//! Splitting and decoding a path, refusing every spelling that could mean two things.

use drover_api::status::ApiError;

/// Splits a path into decoded segments. A single trailing slash is dropped.
pub(super) fn segments(path: &str) -> Result<Vec<String>, ApiError> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(refused("does not start with a slash"));
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.is_empty() {
        return if path == "/" { Ok(Vec::new()) } else { Err(refused("has an empty segment")) };
    }
    rest.split('/').map(segment).collect()
}

fn segment(raw: &str) -> Result<String, ApiError> {
    let text = decode(raw).ok_or_else(|| refused("is not valid percent-encoded UTF-8"))?;
    if text.is_empty() {
        return Err(refused("has an empty segment"));
    }
    if (text == "." || text == "..") && !drover_api::mutants::active("A14-dot-segments") {
        return Err(refused("has a dot segment"));
    }
    let forbidden = |character: char| matches!(character, '/' | '\\' | '%' | ';' | '?' | '#') || character.is_control();
    if text.contains(forbidden) {
        return Err(refused("has a segment with a forbidden character"));
    }
    Ok(text)
}

fn refused(why: &str) -> ApiError {
    ApiError::bad_request(format!("the request path {why}"))
}

/// Decodes `%XX`, once. `None` for a malformed escape or bytes that are not UTF-8.
pub(super) fn decode(raw: &str) -> Option<String> {
    if !raw.contains('%') {
        return Some(raw.to_owned());
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}
