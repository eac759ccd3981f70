//! Tables: what `kubectl get` prints.

use drover_api::{
    kinds::Kind,
    status::ApiError,
    table::{cells, columns},
};
use serde_json::{Value, json};

use super::render::metadata_of;
use crate::request::RequestInfo;

/// `includeObject`: what each row carries besides its cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Include {
    None,
    Metadata,
    Object,
}

impl Include {
    /// Reads the query parameter.
    ///
    /// # Errors
    /// 400 for anything else.
    pub(super) fn read(info: &RequestInfo) -> Result<Self, ApiError> {
        match info.query("includeObject").unwrap_or_default() {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(ApiError::bad_request(format!("unrecognized includeObject value: {other:?}"))),
        }
    }
}

/// Prints the objects of one kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Printer {
    kind: &'static Kind,
    version: &'static str,
    include: Include,
    now_secs: i64,
}

impl Printer {
    pub(super) fn new(kind: &'static Kind, version: &'static str, include: Include, now_secs: i64) -> Self {
        Self { kind, version, include, now_secs }
    }

    /// Builds a table; in a watch only the first one repeats the columns.
    pub(super) fn table<'a>(
        &self,
        metadata: &Value,
        objects: impl Iterator<Item = &'a Value>,
        with_columns: bool,
    ) -> Value {
        let definitions: Vec<Value> =
            if with_columns { columns(self.kind).iter().map(definition).collect() } else { Vec::new() };
        let rows: Vec<Value> = objects.map(|object| self.row(object)).collect();
        json!({
            "kind": "Table",
            "apiVersion": format!("meta.k8s.io/{}", self.version),
            "metadata": metadata,
            "columnDefinitions": definitions,
            "rows": rows,
        })
    }

    fn row(&self, object: &Value) -> Value {
        let cells = cells(self.kind, object, self.now_secs);
        match self.include {
            Include::None => json!({"cells": cells}),
            Include::Metadata => {
                let mut metadata = metadata_of(object);
                metadata["apiVersion"] = format!("meta.k8s.io/{}", self.version).into();
                json!({"cells": cells, "object": metadata})
            }
            Include::Object => json!({"cells": cells, "object": object}),
        }
    }
}

fn definition(column: &drover_api::table::Column) -> Value {
    json!({
        "name": column.name,
        "type": column.kind,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    })
}
