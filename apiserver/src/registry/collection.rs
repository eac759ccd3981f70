//! DELETE of a collection: each selected object as if deleted alone.

use drover_api::{kinds::Kind, status::ApiError};

use super::{DeleteOptions, List, ListOptions, Registry, WriteOptions};

impl Registry {
    /// Deletes every object that a list would show; returns that list. Objects that vanish meanwhile are no error.
    ///
    /// # Errors
    /// As [`list`](Self::list) and [`delete`](Self::delete); objects before the failing one are deleted.
    pub async fn delete_collection(
        &self,
        kind: &'static Kind,
        namespace: &str,
        selection: &ListOptions,
        deletion: &DeleteOptions,
        options: &WriteOptions,
    ) -> Result<List, ApiError> {
        let list = self.list(kind, namespace, selection).await?;
        for object in &list.items {
            let only_it = DeleteOptions { uid: Some(object.uid().to_owned()), ..deletion.clone() };
            match self.delete(kind, (object.namespace(), object.name()), &only_it, options).await {
                Ok(_) => {}
                // Gone, or replaced by another of the same name that nobody selected.
                Err(error) if error.code == 404 || error.code == 409 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(list)
    }
}
