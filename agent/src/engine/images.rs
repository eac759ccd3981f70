//! Which images the engine has, kept from listings and events so that a start need not ask.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Engine, EngineError, ImageDetails, ImageSummary};

/// The images on this host, by every reference they answer to.
#[derive(Debug, Clone, Default)]
pub struct ImageCache {
    inner: Arc<Mutex<Inner>>,
    details: Arc<Mutex<HashMap<String, Arc<ImageDetails>>>>,
}

#[derive(Debug, Default)]
struct Inner {
    by_reference: HashMap<String, Arc<ImageSummary>>,
    images: Vec<Arc<ImageSummary>>,
    listed: bool,
}

impl ImageCache {
    /// Lists the engine's images anew.
    ///
    /// # Errors
    /// Those of the listing; the cache then keeps what it has.
    pub async fn refresh(&self, engine: &dyn Engine) -> Result<(), EngineError> {
        let images: Vec<_> = engine.list_images().await?.into_iter().map(Arc::new).collect();
        let mut by_reference = HashMap::new();
        for image in &images {
            by_reference.insert(image.id.clone(), Arc::clone(image));
            for reference in image.tags.iter().chain(&image.digests) {
                by_reference.insert(normalise(reference), Arc::clone(image));
            }
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        *inner = Inner { by_reference, images, listed: true };
        Ok(())
    }

    /// Returns the image that a reference names. `None` means absent once [`Self::is_listed`].
    pub fn find(&self, reference: &str) -> Option<Arc<ImageSummary>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.by_reference.get(&normalise(reference)).or_else(|| inner.by_reference.get(reference)).cloned()
    }

    /// Describes an image; the engine is asked once per image id, which names content that never changes.
    ///
    /// # Errors
    /// Those of the inspection.
    pub async fn details(&self, engine: &dyn Engine, reference: &str) -> Result<Arc<ImageDetails>, EngineError> {
        let id = self.find(reference).map_or_else(|| reference.to_owned(), |image| image.id.clone());
        let known = self.details.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(details) = known {
            return Ok(details);
        }
        let details = Arc::new(engine.inspect_image(&id).await?);
        let mut cache = self.details.lock().unwrap_or_else(PoisonError::into_inner);
        cache.insert(details.summary.id.clone(), Arc::clone(&details));
        Ok(details)
    }

    /// Whether the engine has ever answered with a list.
    pub fn is_listed(&self) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).listed
    }

    /// Returns all images.
    pub fn list(&self) -> Vec<Arc<ImageSummary>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).images.clone()
    }
}

/// Writes a reference in full: `docker.io/library/x:latest` (distribution's reference grammar).
pub(crate) fn normalise(reference: &str) -> String {
    let (first, rest) = reference.split_once('/').unwrap_or(("", reference));
    let has_registry = first.contains('.') || first.contains(':') || first == "localhost";
    let full = match (has_registry, first.is_empty()) {
        (true, _) => reference.to_owned(),
        (false, true) => format!("docker.io/library/{rest}"),
        (false, false) => format!("docker.io/{reference}"),
    };
    if full.contains('@') {
        // A tag beside a digest says nothing more.
        let (name, digest) = full.split_once('@').unwrap_or((&full, ""));
        return format!("{}@{digest}", without_tag(name));
    }
    if without_tag(&full).len() == full.len() { format!("{full}:latest") } else { full }
}

/// The registry host of a reference: `docker.io` where it names none.
pub(crate) fn registry_of(reference: &str) -> String {
    let full = normalise(reference);
    full.split_once('/').map(|(host, _)| host.to_owned()).unwrap_or_default()
}

fn without_tag(name: &str) -> &str {
    match name.rfind(':') {
        Some(colon) if !name[colon..].contains('/') => &name[..colon],
        Some(_) | None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::{normalise, registry_of};

    #[test]
    fn references_are_written_in_full() {
        let full = [
            ("web", "docker.io/library/web:latest"),
            ("web:1", "docker.io/library/web:1"),
            ("acme/web", "docker.io/acme/web:latest"),
            ("localhost:5000/web", "localhost:5000/web:latest"),
            ("r.example/a/b:2", "r.example/a/b:2"),
            ("web:1@sha256:ab", "docker.io/library/web@sha256:ab"),
        ];
        for (short, long) in full {
            assert_eq!(normalise(short), long);
        }
    }

    #[test]
    fn the_registry_is_the_whole_host() {
        assert_eq!(registry_of("registry.io.evil.com/x"), "registry.io.evil.com");
        assert_eq!(registry_of("x/y"), "docker.io");
    }
}
