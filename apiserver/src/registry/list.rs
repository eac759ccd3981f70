//! Lists: a consistent snapshot, filtered and paged.

use std::sync::Arc;

use drover_api::{
    kinds::{Durability, Kind},
    status::{ApiError, FieldError},
};
use drover_store::{Range, Revision};
use imbl::OrdMap;

use super::{Registry, VersionMatch, from_store, keys, options::ListOptions, seal::Position, unreadable, unserved};
use crate::cache::{Cache, KindCache, Object, Selection, range, too_old};

/// Objects by cache key.
type Objects = OrdMap<Arc<str>, Arc<Object>>;

/// One page of a list.
#[derive(Debug, Clone)]
pub struct List {
    /// The revision that the page shows.
    pub revision: Revision,
    /// In key order.
    pub items: Vec<Arc<Object>>,
    /// Token of the next page, empty on the last one.
    pub continue_token: String,
    /// How many objects follow; only known for lists without selectors.
    pub remaining: Option<usize>,
}

impl Registry {
    /// Lists a kind in a namespace (`""`: everywhere).
    ///
    /// # Errors
    /// 400 for a bad revision or token, 410 for history that is gone, 422 for options that do not go together,
    /// 504 for a revision that has not happened, or the store's error.
    pub async fn list(&self, kind: &'static Kind, namespace: &str, options: &ListOptions) -> Result<List, ApiError> {
        check(options)?;
        let selection = self.selection(kind, namespace, options);
        let query = query_of(kind, namespace, options);
        let (objects, revision, after) = if options.continue_token.is_empty() {
            let (objects, revision) = self.objects(kind, &selection.prefix, options).await?;
            (objects, revision, String::new())
        } else {
            let position = self.seal.unseal(&query, &options.continue_token)?;
            let mut objects = self.objects_at(kind, position.revision).await?;
            if drover_api::mutants::active("C17-pages-move") {
                objects = self.objects(kind, &selection.prefix, &ListOptions::default()).await?.0;
            }
            (objects, position.revision, position.after)
        };
        let (items, rest) = page(&objects, &selection, &after, options.limit);
        let mut list = List { revision, items, continue_token: String::new(), remaining: None };
        if let Some((last, remaining)) = rest {
            list.continue_token = self.seal.seal(&query, &Position { revision, after: last });
            list.remaining = selection.is_everything().then_some(remaining);
        }
        Ok(list)
    }

    /// Builds the selection of a list or watch.
    pub(super) fn selection(&self, kind: &'static Kind, namespace: &str, options: &ListOptions) -> Selection {
        let all = namespace.is_empty() || !kind.namespaced;
        let prefix = if all { String::new() } else { format!("{namespace}/") };
        let view = keys::is_event_view(kind).then_some(kind);
        Selection { prefix, labels: options.labels.clone(), fields: options.fields.clone(), view }
    }

    /// Returns the objects of a first page and the revision they show.
    async fn objects(
        &self,
        kind: &'static Kind,
        prefix: &str,
        options: &ListOptions,
    ) -> Result<(Objects, Revision), ApiError> {
        let (cache, kind_cache) = self.kind_cache(kind).ok_or_else(|| unserved(kind))?;
        match options.revision()? {
            None => _ = self.synchronise(kind).await?,
            Some(0) => {}
            Some(revision) => {
                cache.wait_for(revision).await?;
                let paged = options.limit > 0 && options.version_match.is_none();
                if paged || options.version_match == Some(VersionMatch::Exact) {
                    return Ok((self.objects_at(kind, revision).await?, revision));
                }
            }
        }
        let (snapshot, revision) = cache.snapshot(kind_cache);
        match snapshot.unreadable_under(prefix) {
            Some((key, why)) => Err(unreadable(kind, key, why)),
            None => Ok((snapshot.objects, revision)),
        }
    }

    /// Returns the objects as they were at `revision`: from the ring of events, else from the store's history.
    async fn objects_at(&self, kind: &'static Kind, revision: Revision) -> Result<Objects, ApiError> {
        let (cache, kind_cache) = self.kind_cache(kind).ok_or_else(|| unserved(kind))?;
        if let Some(objects) = recent(cache, kind_cache, revision).await? {
            return Ok(objects);
        }
        if kind_cache.kind.durability == Durability::Volatile {
            return Err(too_old(revision, kind_cache.snapshot().floor));
        }
        let prefix = keys::prefix(kind_cache.kind);
        let wanted = Range { prefix: prefix.clone().into(), at: Some(revision), ..Range::default() };
        let found = self.durable.range(wanted).await.map_err(|error| from_store(&error))?;
        let decoded = found.items.iter().filter_map(|item| {
            let key = std::str::from_utf8(item.key.get(prefix.len()..)?).ok()?;
            let object = Object::decode(kind_cache.kind, item.mod_revision, &item.value);
            let object = object.map_err(|error| unreadable(kind, key, &error.to_string()));
            Some(object.map(|object| (Arc::from(key), Arc::new(object))))
        });
        decoded.collect()
    }
}

async fn recent(cache: &Cache, kind_cache: &KindCache, revision: Revision) -> Result<Option<Objects>, ApiError> {
    cache.wait_for(revision).await?;
    Ok(kind_cache.snapshot().objects_at(revision))
}

/// Takes one page; with more to come also the last key and the number of objects after it.
fn page(
    objects: &Objects,
    selection: &Selection,
    after: &str,
    limit: usize,
) -> (Vec<Arc<Object>>, Option<(String, usize)>) {
    let mut selected = range(objects, &selection.prefix, after).filter(|(key, object)| selection.matches(key, object));
    let limit = if limit == 0 { usize::MAX } else { limit };
    let mut items = Vec::new();
    let mut last = "";
    for (key, object) in selected.by_ref().take(limit) {
        items.push(Arc::clone(object));
        last = key;
    }
    let Some(_) = selected.next() else { return (items, None) };
    let remaining = if selection.is_everything() { 1 + selected.count() } else { 0 };
    (items, Some((last.to_owned(), remaining)))
}

/// What a continue token is bound to.
fn query_of(kind: &Kind, namespace: &str, options: &ListOptions) -> String {
    format!("{}/{}/{}?{}", kind.group, kind.plural, namespace, options.selectors_text)
}

/// Refuses combinations of revision, match and token that contradict each other.
fn check(options: &ListOptions) -> Result<(), ApiError> {
    let forbid = |message: &str| {
        let error = FieldError {
            reason: "FieldValueForbidden",
            field: "resourceVersionMatch".to_owned(),
            message: format!("Forbidden: {message}"),
        };
        Err(invalid_options(&error))
    };
    let versioned = !options.resource_version.is_empty();
    if !options.continue_token.is_empty() && versioned && options.resource_version != "0" {
        return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
    }
    match options.version_match {
        Some(_) if !options.continue_token.is_empty() => {
            forbid("resourceVersionMatch is forbidden when continue is provided")
        }
        Some(_) if !versioned => forbid("resourceVersionMatch is forbidden unless resourceVersion is provided"),
        Some(VersionMatch::Exact) if options.resource_version == "0" => {
            forbid("resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"")
        }
        Some(VersionMatch::Exact | VersionMatch::NotOlderThan) | None => Ok(()),
    }
}

/// 422 about `ListOptions`, worded as Kubernetes does.
pub(super) fn invalid_options(error: &FieldError) -> ApiError {
    let mut answer = ApiError::new(
        422,
        "Invalid",
        format!("ListOptions.meta.k8s.io \"\" is invalid: {}: {}", error.field, error.message),
    );
    answer.details = serde_json::json!({
        "group": "meta.k8s.io",
        "kind": "ListOptions",
        "causes": [{"reason": error.reason, "message": error.message, "field": error.field}],
    });
    answer
}
