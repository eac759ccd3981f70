//! Reads the kernel's table from nft's JSON. Pure.

use serde_json::Value;

use super::tables::{MAPS, Observed};

/// The listing is not what nft is known to print.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// It is not JSON.
    #[error("nft's listing is not valid JSON")]
    Json(#[from] serde_json::Error),
    /// A part of it has an unknown form.
    #[error("nft's listing has an unknown form: {0}")]
    Form(String),
}

/// What `nft -j list table ip NAME` shows.
///
/// # Errors
/// [`ObserveError`] when the text is not such a listing.
pub fn observe(listing: &str) -> Result<Observed, ObserveError> {
    let root: Value = serde_json::from_str(listing)?;
    let objects = root.get("nftables").and_then(Value::as_array);
    let objects = objects.ok_or_else(|| ObserveError::Form(listing.chars().take(100).collect()))?;
    let mut observed = Observed { exists: true, ..Observed::default() };
    for object in objects {
        read(object, &mut observed).ok_or_else(|| ObserveError::Form(object.to_string()))?;
    }
    Ok(observed)
}

fn read(object: &Value, observed: &mut Observed) -> Option<()> {
    let (kind, body) = object.as_object()?.iter().next()?;
    match kind.as_str() {
        "chain" => {
            observed.chains.entry(text(body, "name")?).or_insert(0);
        }
        "rule" => *observed.chains.entry(text(body, "chain")?).or_insert(0) += 1,
        "map" | "set" => {
            let name = text(body, "name")?;
            if !MAPS.iter().any(|(map, _)| *map == name) {
                observed.affinity.insert(name);
                return Some(());
            }
            let elements = observed.elements.entry(name).or_default();
            for element in body.get("elem").and_then(Value::as_array).into_iter().flatten() {
                let (key, value) = match element.as_array() {
                    Some(pair) => (render(pair.first()?)?, render(pair.get(1)?)?),
                    None => (render(element)?, String::new()),
                };
                elements.insert(key, value);
            }
        }
        // `metainfo`, `table`, and whatever a later nft adds.
        _ => {}
    }
    Some(())
}

fn text(body: &Value, field: &str) -> Option<String> {
    body.get(field)?.as_str().map(str::to_owned)
}

/// A key or value as nft reads it.
fn render(value: &Value) -> Option<String> {
    if let Some(parts) = value.get("concat").and_then(Value::as_array) {
        return Some(parts.iter().map(render).collect::<Option<Vec<_>>>()?.join(" . "));
    }
    if let Some(goto) = value.get("goto") {
        return Some(format!("goto {}", text(goto, "target")?));
    }
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
