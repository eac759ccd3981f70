//! Which objects words on the command line mean: `pods`, `pods a b`, `deploy/web svc/web`, `pods,services`.

use crate::{
    cluster::{Cluster, Resource},
    failure::Failure,
};

/// A resource and, when one object is meant, its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selected {
    /// The resource.
    pub(crate) resource: Resource,
    /// The object; every object of the resource when `None`.
    pub(crate) name: Option<String>,
}

/// A word and, when one object is meant, its name.
#[derive(Debug, PartialEq, Eq)]
struct Wanted<'a> {
    kind: &'a str,
    name: Option<&'a str>,
}

/// Resolves words to resources and names.
///
/// # Errors
/// When there are no words, they mix the two forms, or name a resource that the server has not.
pub(crate) async fn select(cluster: &Cluster, words: &[String]) -> anyhow::Result<Vec<Selected>> {
    let mut selected = Vec::new();
    for wanted in parse(words)? {
        for resource in cluster.resources_of(wanted.kind).await? {
            selected.push(Selected { resource, name: wanted.name.map(str::to_owned) });
        }
    }
    Ok(selected)
}

/// Resolves words that must name exactly one object. A lone name is of the kind `otherwise`.
///
/// # Errors
/// As [`select`], and when not exactly one object is named.
pub(crate) async fn select_one(
    cluster: &Cluster,
    words: &[String],
    otherwise: Option<&str>,
) -> anyhow::Result<(Resource, String)> {
    if let ([word], Some(kind)) = (words, otherwise)
        && !word.contains('/')
    {
        return Ok((cluster.resource(kind).await?, word.clone()));
    }
    let mut selected = select(cluster, words).await?.into_iter();
    match (selected.next(), selected.next()) {
        (Some(Selected { resource, name: Some(name) }), None) => Ok((resource, name)),
        _ => Err(Failure::new("exactly one object must be named").help("as KIND/NAME or KIND NAME").into()),
    }
}

fn parse(words: &[String]) -> Result<Vec<Wanted<'_>>, Failure> {
    let Some((first, rest)) = words.split_first() else {
        return Err(Failure::new("no resource type named").help("see 'droverctl api-resources'"));
    };
    if words.iter().any(|word| word.contains('/')) {
        return words.iter().map(|word| pair(word)).collect();
    }
    let kinds = first.split(',').filter(|kind| !kind.is_empty());
    let with_names = |kind| -> Vec<Wanted<'_>> {
        match rest {
            [] => vec![Wanted { kind, name: None }],
            names => names.iter().map(|name| Wanted { kind, name: Some(name) }).collect(),
        }
    };
    Ok(kinds.flat_map(with_names).collect())
}

fn pair(word: &str) -> Result<Wanted<'_>, Failure> {
    match word.split_once('/') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(Wanted { kind, name: Some(name) })
        }
        Some(_) | None => {
            Err(Failure::new(format!("\"{word}\" is not KIND/NAME")).help("either 'pods a b' or 'pod/a pod/b'"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        match parse(&words) {
            Ok(wanted) => {
                let shown = wanted.iter().map(|one| format!("{}:{}", one.kind, one.name.unwrap_or("*")));
                shown.collect::<Vec<_>>().join(" ")
            }
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn words_are_kinds_with_names_or_pairs() {
        assert_eq!(parsed(&["pods"]), "pods:*");
        assert_eq!(parsed(&["pods,svc"]), "pods:* svc:*");
        assert_eq!(parsed(&["pods", "a", "b"]), "pods:a pods:b");
        assert_eq!(parsed(&["pod/a", "deploy/b"]), "pod:a deploy:b");
        assert_eq!(parsed(&["pod/a", "b"]), "\"b\" is not KIND/NAME");
        assert_eq!(parsed(&["pod/"]), "\"pod/\" is not KIND/NAME");
        assert_eq!(parsed(&[]), "no resource type named");
    }
}
