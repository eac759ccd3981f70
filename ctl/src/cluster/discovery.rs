//! Which resource a word on the command line means.
//!
//! The kinds that every cluster has are known without asking; anything else is looked up in the server's discovery,
//! once a run.

use futures::future::try_join_all;
use serde_json::Value;

use super::{Cluster, Error, Resource};
use crate::failure::Failure;

impl Cluster {
    /// Finds the resource that a word names.
    ///
    /// # Errors
    /// When the server has no such resource or cannot be asked.
    pub(crate) async fn resource(&self, word: &str) -> anyhow::Result<Resource> {
        if let Some(known) = known(|resource| resource.answers_to(word)) {
            return Ok(known);
        }
        let resources = self.resources().await?;
        if let Some(found) = resources.iter().find(|resource| resource.answers_to(word)) {
            return Ok(found.clone());
        }
        let message = format!("the server has no resource type \"{word}\"");
        let help = match similar(word, resources) {
            Some(close) => format!("did you mean '{close}'?"),
            None => "see 'droverctl api-resources'".to_owned(),
        };
        Err(Failure::new(message).help(help).into())
    }

    /// Finds the resources of a word that may also be a category such as `all`.
    ///
    /// # Errors
    /// As [`Self::resource`].
    pub(crate) async fn resources_of(&self, word: &str) -> anyhow::Result<Vec<Resource>> {
        if let Some(known) = known(|resource| resource.answers_to(word)) {
            return Ok(vec![known]);
        }
        let in_category = |resource: &&Resource| resource.categories.iter().any(|category| category == word);
        let found: Vec<Resource> = self.resources().await?.iter().filter(in_category).cloned().collect();
        if found.is_empty() { Ok(vec![self.resource(word).await?]) } else { Ok(found) }
    }

    /// Finds the resource that serves objects of a kind.
    ///
    /// # Errors
    /// When the server does not serve it or cannot be asked.
    pub(crate) async fn resource_of_kind(&self, api_version: &str, kind: &str) -> anyhow::Result<Resource> {
        let serves = |resource: &Resource| resource.kind == kind && resource.api_version() == api_version;
        if let Some(known) = known(serves) {
            return Ok(known);
        }
        let found = self.resources().await?.iter().find(|resource| serves(resource)).cloned();
        found.ok_or_else(|| {
            Failure::new(format!("the server does not serve kind \"{kind}\" in version \"{api_version}\""))
                .help("see 'droverctl api-resources'")
                .into()
        })
    }

    /// Returns every resource that the server serves, of each group in its preferred version.
    ///
    /// # Errors
    /// When discovery fails.
    pub(crate) async fn resources(&self) -> Result<&[Resource], Error> {
        self.discovered.get_or_try_init(|| self.discover()).await.map(Vec::as_slice)
    }

    async fn discover(&self) -> Result<Vec<Resource>, Error> {
        let groups = self.get("/apis").await?;
        let preferred = groups["groups"].as_array().into_iter().flatten();
        let preferred = preferred.filter_map(|group| group["preferredVersion"]["groupVersion"].as_str());
        let paths = std::iter::once("/api/v1".to_owned()).chain(preferred.map(|version| format!("/apis/{version}")));
        let lists = try_join_all(paths.map(|path| async move { self.get(&path).await })).await?;
        Ok(lists.iter().flat_map(resources_in).collect())
    }
}

fn known(wanted: impl Fn(&Resource) -> bool) -> Option<Resource> {
    drover_api::kinds::all().iter().map(Resource::from).find(|resource| wanted(resource))
}

/// Reads an `APIResourceList`, without subresources.
fn resources_in(list: &Value) -> Vec<Resource> {
    let group_version = list["groupVersion"].as_str().unwrap_or_default();
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
    let entries = list["resources"].as_array().into_iter().flatten();
    let whole = entries.filter(|entry| !text(&entry["name"]).contains('/'));
    let read = |entry: &Value| Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: text(&entry["kind"]),
        plural: text(&entry["name"]),
        singular: match text(&entry["singularName"]) {
            singular if singular.is_empty() => text(&entry["kind"]).to_lowercase(),
            singular => singular,
        },
        short_names: texts(&entry["shortNames"]),
        categories: texts(&entry["categories"]),
        namespaced: entry["namespaced"].as_bool().unwrap_or(false),
        verbs: texts(&entry["verbs"]),
    };
    whole.map(read).collect()
}

/// The name that a mistyped word was most likely meant to be.
fn similar<'a>(word: &str, resources: &'a [Resource]) -> Option<&'a str> {
    let names = resources.iter().flat_map(|resource| [resource.plural.as_str(), resource.singular.as_str()]);
    let close = names.map(|name| (distance(word, name), name.len().abs_diff(word.len()), name)).min()?;
    (close.0 <= 2).then_some(close.2)
}

/// Edits between two words.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replace = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_resource_list_is_read_without_subresources() {
        let list = json!({"groupVersion": "apps/v1", "resources": [
            {"name": "deployments", "singularName": "deployment", "namespaced": true, "kind": "Deployment",
             "verbs": ["get"], "shortNames": ["deploy"], "categories": ["all"]},
            {"name": "deployments/status", "singularName": "", "namespaced": true, "kind": "Deployment", "verbs": []},
        ]});
        let found = resources_in(&list);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].label(), found[0].api_version()), ("deployment.apps".to_owned(), "apps/v1".to_owned()));
    }

    #[test]
    fn a_mistyped_word_finds_its_neighbour() {
        let all: Vec<Resource> = drover_api::kinds::all().iter().map(Resource::from).collect();
        assert_eq!(similar("deplyoments", &all), Some("deployments"));
        assert_eq!(similar("pdos", &all), Some("pods"));
        assert_eq!(similar("zebras", &all), None);
    }
}
