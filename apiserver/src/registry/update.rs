//! PUT, and what every other change of an existing object goes through.

use std::sync::Arc;

use drover_api::{
    defaults,
    kinds::Kind,
    object::{name, resource_version},
    status::{ApiError, FieldError},
    validate,
};
use serde_json::Value;

use super::{
    Registry, WriteOptions, strategy,
    view::{from_view, to_view},
    write::{Change, TRIES, Target, Written, broken, check_size, unversioned},
};
use crate::{
    admission::{self, Effects},
    cache::Object,
};

/// Which part of an object a write may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Everything but the status.
    Main,
    /// The status.
    Status,
    /// `spec.finalizers` of a Namespace.
    Finalize,
}

/// What a prepared change comes to.
#[derive(Debug)]
struct Prepared {
    object: Value,
    effects: Effects,
    unchanged: bool,
    completes_deletion: bool,
}

impl Registry {
    /// Replaces (a part of) an object.
    ///
    /// # Errors
    /// 404, 409 for a stale resourceVersion or another uid, 422 with field paths, what admission refuses, or the
    /// store's error.
    pub async fn update(
        &self,
        kind: &'static Kind,
        (namespace, name): (&str, &str),
        part: Part,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Object>, ApiError> {
        strategy::place(kind, namespace, &mut object)?;
        if resource_version(&object).is_empty() && !allows_unconditional_update(kind) && part == Part::Main {
            let error = FieldError {
                reason: "FieldValueInvalid",
                field: "metadata.resourceVersion".to_owned(),
                message: "Invalid value: 0: must be specified for an update".to_owned(),
            };
            return Err(ApiError::invalid(kind, name, &[error]));
        }
        self.modify(kind, (namespace, name), part, options, &|_| Ok(object.clone())).await
    }

    /// Changes an object through a function of its current state (in the form of `kind`), against other writers.
    ///
    /// # Errors
    /// As [`update`](Self::update), and what `change` returns.
    pub async fn modify(
        &self,
        kind: &'static Kind,
        (namespace, name): (&str, &str),
        part: Part,
        options: &WriteOptions,
        change: &(dyn Fn(&Value) -> Result<Value, ApiError> + Sync),
    ) -> Result<Arc<Object>, ApiError> {
        let _allocating = self.lock_allocations(kind).await;
        let stored = kind.storage_kind();
        let target = Target { kind: stored, namespace, name };
        let mut fresh = false;
        for _ in 0..TRIES {
            let current = self.current(target, fresh).await?.ok_or_else(|| ApiError::not_found(kind, name))?;
            let value = current.to_value();
            let changed = change(&to_view(kind, value.clone())).and_then(|object| check_size(&object).map(|()| object));
            let prepared = match changed {
                Ok(object) => self.prepare_change(target, part, from_view(kind, object), &value, options).await,
                Err(error) => Err(error),
            };
            let prepared = match prepared {
                // A refusal or a change without effect must hold against the newest state.
                Err(_) | Ok(Prepared { unchanged: true, .. }) if !fresh => {
                    fresh = true;
                    self.refresh_admission().await?;
                    continue;
                }
                Err(error) => return Err(error),
                Ok(prepared) if prepared.unchanged => return Ok(current),
                Ok(prepared) => prepared,
            };
            match self.store_change(target, &current, prepared, options).await? {
                Ok(object) => return Ok(object),
                Err(_) => fresh = true,
            }
        }
        Err(strategy::stale(kind, name))
    }

    async fn prepare_change(
        &self,
        target: Target<'_>,
        part: Part,
        mut object: Value,
        current: &Value,
        options: &WriteOptions,
    ) -> Result<Prepared, ApiError> {
        let kind = target.kind;
        strategy::prepare_update(kind, part, &mut object, current)?;
        if part == Part::Main {
            defaults::apply(kind, &mut object);
        }
        let request = admission::Request {
            kind,
            operation: admission::Operation::Update,
            subresource: part.subresource(),
            namespace: target.namespace,
            name: target.name,
            user: &options.user,
            old: Some(current),
            world: self,
            environment: self.environment(),
            allocation_revision: self.allocation_revision(kind).await?,
        };
        let effects = self.admission.admit(&request, &mut object)?;
        let errors = match part {
            Part::Main => validate::update(kind, &object, current),
            Part::Status => validate::update_status(kind, &object, current),
            Part::Finalize => Vec::new(),
        };
        if !errors.is_empty() {
            return Err(ApiError::invalid(kind, name(current), &errors));
        }
        if part == Part::Main {
            strategy::bump_generation(kind, &mut object, current);
        }
        let completes_deletion = strategy::deletion_is_complete(kind, &object);
        Ok(Prepared { unchanged: object == *current && !completes_deletion, completes_deletion, object, effects })
    }

    async fn store_change(
        &self,
        target: Target<'_>,
        current: &Object,
        prepared: Prepared,
        options: &WriteOptions,
    ) -> Result<Result<Arc<Object>, Written>, ApiError> {
        let Prepared { object, effects, unchanged: _, completes_deletion } = prepared;
        let object = unversioned(object);
        let (same_version, stored) =
            Object::encode(target.kind, current.revision, &object).map_err(|error| broken(&error))?;
        if options.dry_run {
            return Ok(Ok(Arc::new(same_version)));
        }
        let change = if completes_deletion { Change::Delete } else { Change::Put(&stored) };
        match self.commit(target, current.revision, change, effects).await? {
            Written::Committed(revision) => Ok(Ok(Arc::new(same_version.at_revision(revision)))),
            other @ (Written::Changed | Written::Outdated) => Ok(Err(other)),
        }
    }
}

impl Part {
    /// The name of the subresource that changes this part.
    pub fn subresource(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::Finalize => "finalize",
        }
    }
}

/// Kinds whose writers must say what they started from, as in Kubernetes.
fn allows_unconditional_update(kind: &Kind) -> bool {
    !matches!((kind.group, kind.kind), ("coordination.k8s.io", "Lease") | ("policy", "PodDisruptionBudget"))
}
