//! DELETE of one object: preconditions, grace, finalizers.

use std::sync::Arc;

use drover_api::{kinds::Kind, status::ApiError};

use super::{
    DeleteOptions, Registry, WriteOptions,
    plan::{DeletePlan, plan_delete},
    write::{Change, TRIES, Target, Written, broken, unversioned},
};
use crate::{
    admission::{self, Effects},
    cache::Object,
};

/// What a DELETE came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Deleted {
    /// The object stays until its finalizers or its agent are done.
    Marked(Arc<Object>),
    /// The object is gone; this was its last state.
    Removed(Arc<Object>),
}

impl Deleted {
    /// Returns the object, marked or as it last was.
    pub fn object(&self) -> &Arc<Object> {
        match self {
            Self::Marked(object) | Self::Removed(object) => object,
        }
    }
}

impl Registry {
    /// Deletes an object.
    ///
    /// # Errors
    /// 404, 409 for a failed precondition, what admission refuses, or the store's error.
    pub async fn delete(
        &self,
        kind: &'static Kind,
        (namespace, name): (&str, &str),
        deletion: &DeleteOptions,
        options: &WriteOptions,
    ) -> Result<Deleted, ApiError> {
        let target = Target { kind: kind.storage_kind(), namespace, name };
        let mut fresh = false;
        for _ in 0..TRIES {
            let current = self.current(target, fresh).await?.ok_or_else(|| ApiError::not_found(kind, name))?;
            match self.delete_with(target, &current, (deletion, Effects::default()), options).await {
                Ok(Some(deleted)) => return Ok(deleted),
                Ok(None) => fresh = true,
                Err(_) if !fresh => fresh = true,
                Err(error) => return Err(error),
            }
        }
        Err(super::strategy::stale(kind, name))
    }

    /// Tries once from a known state, together with other writes; `None` when another write got in between.
    pub(super) async fn delete_with(
        &self,
        target: Target<'_>,
        current: &Arc<Object>,
        (deletion, effects): (&DeleteOptions, Effects),
        options: &WriteOptions,
    ) -> Result<Option<Deleted>, ApiError> {
        check_preconditions(target.kind, current, deletion)?;
        let value = current.to_value();
        self.admit_delete(target, &value, options)?;
        let marked = match plan_delete(target.kind, &value, deletion, self.environment().now()) {
            DeletePlan::Nothing => return Ok(Some(Deleted::Marked(Arc::clone(current)))),
            DeletePlan::Mark(object) => Some(unversioned(object)),
            DeletePlan::Remove => None,
        };
        let Some(marked) = marked else {
            let removed = Deleted::Removed(Arc::clone(current));
            if options.dry_run {
                return Ok(Some(removed));
            }
            let written = self.commit(target, current.revision, Change::Delete, effects).await?;
            return Ok(matches!(written, Written::Committed(_)).then_some(removed));
        };
        let (object, stored) =
            Object::encode(target.kind, current.revision, &marked).map_err(|error| broken(&error))?;
        if options.dry_run {
            return Ok(Some(Deleted::Marked(Arc::new(object))));
        }
        match self.commit(target, current.revision, Change::Put(&stored), effects).await? {
            Written::Committed(revision) => Ok(Some(Deleted::Marked(Arc::new(object.at_revision(revision))))),
            Written::Changed | Written::Outdated => Ok(None),
        }
    }

    fn admit_delete(
        &self,
        target: Target<'_>,
        current: &serde_json::Value,
        options: &WriteOptions,
    ) -> Result<(), ApiError> {
        let request = admission::Request {
            kind: target.kind,
            operation: admission::Operation::Delete,
            subresource: "",
            namespace: target.namespace,
            name: target.name,
            user: &options.user,
            old: Some(current),
            world: self,
            environment: self.environment(),
            allocation_revision: None,
        };
        self.admission.admit(&request, &mut current.clone()).map(drop)
    }
}

fn check_preconditions(kind: &Kind, current: &Object, deletion: &DeleteOptions) -> Result<(), ApiError> {
    let failed = |what: &str, wanted: &str, found: &str| {
        let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}");
        Err(ApiError::conflict(kind, current.name(), &why))
    };
    if let Some(wanted) = &deletion.uid
        && wanted != current.uid()
        && !drover_api::mutants::active("C02-server-ignores-uid")
    {
        return failed("UID", wanted, current.uid());
    }
    let found = current.revision.to_string();
    match &deletion.resource_version {
        Some(wanted) if *wanted != found => failed("ResourceVersion", wanted, &found),
        Some(_) | None => Ok(()),
    }
}
