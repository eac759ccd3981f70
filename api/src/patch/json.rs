//! JSON Patch (RFC 6902) within bounds.
//!
//! A short patch can ask for much: copies double a document, moves of large values and inserts at the front of long
//! lists cost their size each time, and paths into copies nest without limit. Each operation is charged beforehand.

use json_patch::{PatchOperation, jsonptr::Pointer};
use serde_json::Value;

use crate::{decode::MAX_DEPTH, status::ApiError};

/// As many operations as Kubernetes takes in one patch.
pub const MAX_OPERATIONS: usize = 10_000;

/// The size of the largest request body; a patch may not make more of an object than a replace could.
pub const MAX_RESULT_BYTES: usize = 3 * 1024 * 1024;

/// What all operations of a patch may cost together, in values visited: some ten passes over the largest document.
const MAX_COST: usize = 4 * 1024 * 1024;

pub(super) fn apply(object: &Value, patch: &Value) -> Result<Value, ApiError> {
    let Some(items) = patch.as_array() else {
        return Err(ApiError::bad_request("a JSON patch is a list of operations"));
    };
    if items.len() > MAX_OPERATIONS && !crate::mutants::active("A05-endless-patch") {
        let count = items.len();
        return Err(too_large(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}"
        )));
    }
    let mut result = object.clone();
    let mut budget = Budget { cost: MAX_COST };
    for (index, item) in items.iter().enumerate() {
        let operation: PatchOperation = serde_json::from_value(item.clone())
            .map_err(|error| ApiError::bad_request(format!("error decoding patch: operation {index}: {error}")))?;
        budget.charge(&result, &operation).map_err(|problem| problem.into_error(index, &operation))?;
        if matches!(operation, PatchOperation::Test(_)) && crate::mutants::active("W12-test-always-holds") {
            continue;
        }
        json_patch::patch_unsafe(&mut result, std::slice::from_ref(&operation))
            .map_err(|error| refused(index, &operation, &error.kind.to_string()))?;
    }
    check_size(&result)?;
    Ok(result)
}

#[derive(Debug)]
struct Budget {
    cost: usize,
}

#[derive(Debug)]
enum Problem {
    TooCostly,
    TooDeep,
}

impl Problem {
    fn into_error(self, index: usize, operation: &PatchOperation) -> ApiError {
        match self {
            Self::TooCostly => too_large(format!("operation {index} makes the JSON patch too costly to apply")),
            Self::TooDeep => refused(index, operation, &format!("it would nest deeper than {MAX_DEPTH} levels")),
        }
    }
}

impl Budget {
    fn charge(&mut self, document: &Value, operation: &PatchOperation) -> Result<(), Problem> {
        match operation {
            PatchOperation::Add(add) => self.charge_insert(document, &add.path, Some(&add.value)),
            PatchOperation::Replace(replace) => self.charge_insert(document, &replace.path, Some(&replace.value)),
            PatchOperation::Copy(copy) => self.charge_insert(document, &copy.path, copy.from.resolve(document).ok()),
            PatchOperation::Move(change) => {
                self.charge_list(document, &change.from)?;
                self.charge_insert(document, &change.path, change.from.resolve(document).ok())
            }
            PatchOperation::Remove(remove) => self.charge_list(document, &remove.path),
            PatchOperation::Test(test) => self.spend(1 + test.path.count()),
        }
    }

    fn charge_insert(&mut self, document: &Value, path: &Pointer, value: Option<&Value>) -> Result<(), Problem> {
        self.charge_list(document, path)?;
        let Some(value) = value else { return Ok(()) };
        let room = MAX_DEPTH.checked_sub(path.count()).ok_or(Problem::TooDeep)?;
        self.visit(value, room)
    }

    /// Charges for the items that move up or down when one of a list is inserted or removed.
    fn charge_list(&mut self, document: &Value, path: &Pointer) -> Result<(), Problem> {
        let parent = path.split_back().and_then(|(parent, _)| parent.resolve(document).ok());
        let moved = parent.and_then(Value::as_array).map_or(0, |list| list.len() / 16);
        self.spend(1 + moved)
    }

    fn visit(&mut self, value: &Value, room: usize) -> Result<(), Problem> {
        self.spend(1)?;
        let inner = || room.checked_sub(1).ok_or(Problem::TooDeep);
        match value {
            Value::Array(list) => list.iter().try_for_each(|item| self.visit(item, inner()?)),
            Value::Object(fields) => fields.values().try_for_each(|field| self.visit(field, inner()?)),
            // Kilobytes of text cost what a value costs.
            Value::String(text) => self.spend(text.len() / 64),
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        }
    }

    fn spend(&mut self, cost: usize) -> Result<(), Problem> {
        self.cost = self.cost.checked_sub(cost).ok_or(Problem::TooCostly)?;
        Ok(())
    }
}

fn check_size(result: &Value) -> Result<(), ApiError> {
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            if self.0 > MAX_RESULT_BYTES { Err(std::io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes.len()) }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    serde_json::to_writer(Counter(0), result)
        .map_err(|_| too_large(format!("the result of the JSON patch is larger than {MAX_RESULT_BYTES} bytes")))
}

fn too_large(message: String) -> ApiError {
    ApiError::new(413, "RequestEntityTooLarge", message)
}

/// Kubernetes answers with the first half of this sentence; the second says which operation it was.
fn refused(index: usize, operation: &PatchOperation, why: &str) -> ApiError {
    let path: String = operation.path().as_str().chars().take(256).collect();
    let sentence = "the server rejected our request due to an error in our request";
    ApiError::new(422, "Invalid", format!("{sentence}: operation {index} of the JSON patch, at \"{path}\": {why}"))
}
