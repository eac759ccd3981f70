//! Every sample in `manifests/` is parsed, decoded strictly, defaulted, validated and survives a round trip.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use drover_api::{
    decode::{FieldValidation, decode},
    defaults, kinds, object, validate,
};
use serde_json::Value;

#[test]
fn every_sample_manifest_is_valid_and_survives_a_round_trip() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
    let mut samples = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).with_context(|| path.display().to_string())?;
        for document in documents {
            check(&document).with_context(|| path.display().to_string())?;
            samples += 1;
        }
    }
    ensure!(samples > 0, "there are no samples");
    Ok(())
}

fn check(document: &Value) -> Result<()> {
    let text = |key| document[key].as_str().unwrap_or_default();
    let kind = kinds::by_gvk(text("apiVersion"), text("kind")).context("the kind is not served")?;
    let mut decoded = decode(kind, document.to_string().as_bytes(), FieldValidation::Strict)?.object;
    if kind.namespaced {
        object::metadata_mut(&mut decoded).insert("namespace".to_owned(), "default".into());
    }
    defaults::apply(kind, &mut decoded);
    let errors = validate::create(kind, &decoded);
    ensure!(errors.is_empty(), "{} {}: {errors:?}", kind.kind, object::name(&decoded));
    let again = decode(kind, &object::to_bytes(&decoded), FieldValidation::Strict)?.object;
    ensure!(again == decoded, "{} {} changed on the way", kind.kind, object::name(&decoded));
    Ok(())
}
