//! Where each document belongs.

use std::collections::HashMap;

use drover_api::object;
use serde_json::Value;

use crate::{
    cli::Context,
    cluster::{Cluster, Error, Resource},
    failure::Failure,
    input::Document,
};

/// A document and the place of its object in the API.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Where the document stood, for messages.
    pub(crate) place: String,
    /// The resource of its kind.
    pub(crate) resource: Resource,
    /// Its namespace; that of the context when the document names none.
    pub(crate) namespace: String,
    /// The object, with its namespace filled in.
    pub(crate) manifest: Value,
}

impl Item {
    /// The object's name.
    pub(crate) fn name(&self) -> &str {
        object::name(&self.manifest)
    }

    /// `deployment.apps/web`.
    pub(crate) fn label(&self) -> String {
        format!("{}/{}", self.resource.label(), self.name())
    }

    /// The path of the object.
    pub(crate) fn path(&self) -> String {
        self.resource.object(&self.namespace, self.name())
    }

    /// The path to create it at.
    pub(crate) fn collection(&self) -> String {
        self.resource.collection(Some(&self.namespace))
    }

    /// A refusal by the server, with the place of the document and a hint where there is one.
    pub(crate) fn refused(&self, error: &Error) -> Failure {
        let failure = Failure::new(format!("{}: {error}", self.place));
        if error.is_not_found() && error.to_string().contains("namespaces") {
            return failure.help(format!("create it first: add a Namespace \"{}\" to the manifests", self.namespace));
        }
        if error.to_string().contains("field is immutable") {
            return failure.help("this field cannot change: delete the object and apply again");
        }
        failure
    }

    /// The same for a failure in the middle of writing.
    pub(crate) fn blame(&self, error: &Error) -> anyhow::Error {
        match error {
            Error::Api(_) => self.refused(error).into(),
            Error::Unreachable { .. } | Error::Protocol(_) => Failure::new(format!("{}: {error}", self.place))
                .help("what is listed above was applied; apply again when the server can be reached")
                .into(),
        }
    }
}

/// Finds the resource and namespace of every document.
///
/// # Errors
/// Kinds that the server does not serve, a namespace other than `-n`, and objects that stand twice.
pub(crate) async fn resolve(cluster: &Cluster, ctx: &Context, documents: Vec<Document>) -> anyhow::Result<Vec<Item>> {
    let mut items: Vec<Item> = Vec::new();
    let mut seen: HashMap<String, String> = HashMap::new();
    for document in documents {
        let (api_version, kind) =
            (object::str_at(&document.object, &["apiVersion"]), object::str_at(&document.object, &["kind"]));
        let resource =
            cluster.resource_of_kind(api_version, kind).await.map_err(|error| error.context(document.place()))?;
        let item = place(resource, document, &cluster.namespace, ctx.access.namespace.as_deref())?;
        if let Some(first) = seen.insert(item.path(), item.place.clone()) {
            return Err(Failure::new(format!("{} is there twice: {first} and {}", item.label(), item.place)).into());
        }
        items.push(item);
    }
    Ok(items)
}

fn place(resource: Resource, document: Document, default: &str, demanded: Option<&str>) -> Result<Item, Failure> {
    let place = document.place();
    let mut manifest = document.object;
    if !resource.namespaced {
        return Ok(Item { place, resource, namespace: String::new(), manifest });
    }
    let own = object::namespace(&manifest).to_owned();
    if let Some(demanded) = demanded
        && !own.is_empty()
        && own != demanded
    {
        let message = format!("{place}: metadata.namespace: is \"{own}\", but -n says \"{demanded}\"");
        return Err(Failure::new(message));
    }
    let namespace = if own.is_empty() { default.to_owned() } else { own };
    manifest["metadata"]["namespace"] = namespace.as_str().into();
    Ok(Item { place, resource, namespace, manifest })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn placed(kind: (&str, &str), namespace: Option<&str>, demanded: Option<&str>) -> Result<String, String> {
        let resource = drover_api::kinds::by_gvk(kind.0, kind.1).map(Resource::from).unwrap();
        let mut object = json!({"apiVersion": kind.0, "kind": kind.1, "metadata": {"name": "x"}});
        if let Some(namespace) = namespace {
            object["metadata"]["namespace"] = namespace.into();
        }
        let document = Document { source: "f.yaml".to_owned(), number: 1, object };
        let item = place(resource, document, demanded.unwrap_or("default"), demanded);
        item.map(|item| item.path()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn an_object_goes_to_its_own_namespace_or_to_that_of_the_context() {
        assert_eq!(placed(("v1", "Pod"), None, None).unwrap(), "/api/v1/namespaces/default/pods/x");
        assert_eq!(placed(("v1", "Pod"), Some("shop"), None).unwrap(), "/api/v1/namespaces/shop/pods/x");
        assert_eq!(placed(("v1", "Pod"), None, Some("shop")).unwrap(), "/api/v1/namespaces/shop/pods/x");
        assert_eq!(placed(("v1", "Node"), None, Some("shop")).unwrap(), "/api/v1/nodes/x");
        assert_eq!(
            placed(("v1", "Pod"), Some("a"), Some("b")).unwrap_err(),
            "f.yaml, document 1 (Pod x): metadata.namespace: is \"a\", but -n says \"b\""
        );
    }
}
