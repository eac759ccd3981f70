//! `autoscaling/v1` Scale: the replica count of a workload, and nothing else of it.

use axum::response::Response;
use drover_api::{
    labels::LabelSelector,
    object::{at, resource_version, uid},
    status::{ApiError, FieldError},
};
use http::StatusCode;
use serde_json::{Value, json};

use super::{Call, body};
use crate::registry::Part;

impl Call {
    pub(super) async fn get_scale(&self) -> Result<Response, ApiError> {
        let (namespace, name) = self.id();
        let object = self.registry.get(self.kind, namespace, name).await?;
        Ok(self.renderer()?.value(StatusCode::OK, &scale_of(&object.to_value())))
    }

    pub(super) async fn update_scale(mut self) -> Result<Response, ApiError> {
        let (content_type, bytes) = self.body()?;
        let mut scale = body::of_type("autoscaling.v1.Scale", &content_type, &bytes)?;
        body::check_name(&mut scale, &self.info.name)?;
        self.write_scale(&|_| Ok(scale.clone())).await
    }

    pub(super) async fn patch_scale(mut self) -> Result<Response, ApiError> {
        use crate::registry::Patch;
        let patch = match self.read_patch().await? {
            // Scale has no lists, so that both merge patches mean the same.
            Patch::Strategic(document) => Patch::Merge(document),
            other @ (Patch::Json(_) | Patch::Merge(_)) => other,
        };
        let kind = self.kind;
        self.write_scale(&move |current| patch.apply(kind, current)).await
    }

    async fn write_scale(
        &self,
        change: &(dyn Fn(&Value) -> Result<Value, ApiError> + Sync),
    ) -> Result<Response, ApiError> {
        let options = self.write_options()?;
        let name = self.info.name.as_str();
        let object = self
            .registry
            .modify(self.kind, self.id(), Part::Main, &options, &|current| {
                let scale = change(&scale_of(current))?;
                let replicas = replicas(&scale, name)?;
                let mut object = current.clone();
                object["spec"]["replicas"] = replicas.into();
                // The preconditions of the Scale are those of the object.
                object["metadata"]["resourceVersion"] = resource_version(&scale).into();
                object["metadata"]["uid"] = uid(&scale).into();
                Ok(object)
            })
            .await?;
        Ok(self.renderer()?.value(StatusCode::OK, &scale_of(&object.to_value())))
    }
}

/// Builds the Scale of a workload.
fn scale_of(object: &Value) -> Value {
    let metadata: serde_json::Map<String, Value> = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"]
        .iter()
        .filter_map(|field| Some(((*field).to_owned(), at(object, &["metadata", field])?.clone())))
        .collect();
    let count = |path: &[&str]| at(object, path).and_then(Value::as_i64).unwrap_or(0);
    let selector = at(object, &["spec", "selector"]).and_then(|selector| LabelSelector::from_object(selector).ok());
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": count(&["spec", "replicas"])},
        "status": {
            "replicas": count(&["status", "replicas"]),
            "selector": selector.map(|selector| selector.to_string()).unwrap_or_default(),
        },
    })
}

fn replicas(scale: &Value, name: &str) -> Result<i64, ApiError> {
    let replicas = match at(scale, &["spec", "replicas"]) {
        None | Some(Value::Null) => Some(0),
        Some(value) => value.as_i64(),
    };
    match replicas {
        Some(replicas) if (0..=i64::from(i32::MAX)).contains(&replicas) => Ok(replicas),
        _ => Err(invalid(scale, name)),
    }
}

fn invalid(scale: &Value, name: &str) -> ApiError {
    let stated = at(scale, &["spec", "replicas"]).unwrap_or(&Value::Null);
    let error = FieldError {
        reason: "FieldValueInvalid",
        field: "spec.replicas".to_owned(),
        message: format!("Invalid value: {stated}: must be greater than or equal to 0"),
    };
    let causes = json!([{"reason": error.reason, "message": error.message, "field": error.field}]);
    let mut answer = ApiError::new(
        422,
        "Invalid",
        format!("Scale.autoscaling \"{name}\" is invalid: {}: {}", error.field, error.message),
    );
    answer.details = json!({"name": name, "group": "autoscaling", "kind": "Scale", "causes": causes});
    answer
}
