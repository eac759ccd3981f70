//! POST: a new object.

use std::sync::Arc;

use drover_api::{
    defaults,
    kinds::Kind,
    object::{name, str_at},
    status::ApiError,
    validate,
};
use serde_json::Value;

use super::{
    Registry, WriteOptions, strategy,
    view::from_view,
    write::{Change, TRIES, Target, Written, broken, check_size},
};
use crate::{
    admission::{self, Effects},
    cache::Object,
};

/// Generated names that may be in use already before the client hears of it: Kubernetes' eight.
const NAMES: usize = 8;

impl Registry {
    /// Stores a new object and returns it as stored.
    ///
    /// # Errors
    /// 409 AlreadyExists, 422 with field paths, what admission refuses, or the store's error.
    pub async fn create(
        &self,
        kind: &'static Kind,
        namespace: &str,
        object: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Object>, ApiError> {
        check_size(&object)?;
        let _allocating = self.lock_allocations(kind).await;
        let object = from_view(kind, object);
        let kind = kind.storage_kind();
        let generated = name(&object).is_empty() && !str_at(&object, &["metadata", "generateName"]).is_empty();
        let mut fresh = self.admission.needs_fresh_state(kind);
        let mut taken = 0;
        for _ in 0..TRIES {
            if fresh {
                self.refresh_admission().await?;
            }
            let mut candidate = object.clone();
            if generated {
                strategy::generate_name(&mut candidate, self.environment());
            }
            let (candidate, effects) = match self.prepare_new(kind, namespace, candidate, options).await {
                Ok(prepared) => prepared,
                Err(_) if !fresh => {
                    fresh = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let target =
                Target { kind, namespace: str_at(&candidate, &["metadata", "namespace"]), name: name(&candidate) };
            match self.store_new(target, &candidate, effects, options).await? {
                Ok(stored) => return Ok(stored),
                Err(Written::Outdated) => fresh = true,
                Err(Written::Changed | Written::Committed(_)) => {
                    taken += 1;
                    if !generated || taken == NAMES {
                        return Err(self.taken(target).await?);
                    }
                }
            }
        }
        Err(strategy::stale(kind, name(&object)))
    }

    async fn prepare_new(
        &self,
        kind: &'static Kind,
        namespace: &str,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<(Value, Effects), ApiError> {
        strategy::prepare_create(kind, namespace, &mut object, self.environment())?;
        defaults::apply(kind, &mut object);
        let allocation_revision = self.allocation_revision(kind).await?;
        let name = name(&object).to_owned();
        let request = admission::Request {
            kind,
            operation: admission::Operation::Create,
            subresource: "",
            namespace,
            name: &name,
            user: &options.user,
            old: None,
            world: self,
            environment: self.environment(),
            allocation_revision,
        };
        let effects = self.admission.admit(&request, &mut object)?;
        let errors = validate::create(kind, &object);
        if !errors.is_empty() {
            return Err(ApiError::invalid(kind, &name, &errors));
        }
        Ok((object, effects))
    }

    async fn store_new(
        &self,
        target: Target<'_>,
        object: &Value,
        effects: Effects,
        options: &WriteOptions,
    ) -> Result<Result<Arc<Object>, Written>, ApiError> {
        let (unwritten, stored) = Object::encode(target.kind, 0, object).map_err(|error| broken(&error))?;
        if options.dry_run {
            let exists = self.current(target, true).await?.is_some();
            return Ok(if exists { Err(Written::Changed) } else { Ok(Arc::new(unwritten)) });
        }
        match self.commit(target, 0, Change::Put(&stored), effects).await? {
            Written::Committed(revision) => {
                let (object, _) = Object::encode(target.kind, revision, object).map_err(|error| broken(&error))?;
                Ok(Ok(Arc::new(object)))
            }
            other @ (Written::Changed | Written::Outdated) => Ok(Err(other)),
        }
    }

    /// 409 for a name in use; says so when its holder is on the way out.
    async fn taken(&self, target: Target<'_>) -> Result<ApiError, ApiError> {
        let mut error = ApiError::already_exists(target.kind, target.name);
        let holder = self.current(target, true).await?;
        if holder.is_some_and(|object| object.is_terminating()) {
            error.message = format!("object is being deleted: {}", error.message);
        }
        Ok(error)
    }
}
