//! Label and field selectors.

use serde_json::{Map, Value};

use crate::{kinds::Kind, status::ApiError};

/// A parsed label selector; the default one matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    requirements: Vec<()>,
}

impl LabelSelector {
    /// Parses the query form: `app=web,tier in (a,b),!legacy`.
    ///
    /// # Errors
    /// 400 with Kubernetes' wording.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let _ = text;
        Ok(Self { requirements: Vec::new() })
    }

    /// Reads the object form (`matchLabels`, `matchExpressions`). An absent or empty selector matches everything.
    ///
    /// # Errors
    /// 400 for an unknown operator or malformed requirement.
    pub fn from_object(selector: &Value) -> Result<Self, ApiError> {
        let _ = selector;
        Ok(Self::default())
    }

    /// Whether this selector has no requirement.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether a label map satisfies every requirement.
    pub fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        let _ = labels;
        true
    }
}

/// A parsed field selector: `metadata.name=x,spec.nodeName!=y`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    terms: Vec<(String, bool, String)>,
}

impl FieldSelector {
    /// Parses the query form for a kind.
    ///
    /// # Errors
    /// 400 for malformed text and for a field the kind does not select by: `field label not supported: x`.
    pub fn parse(kind: &Kind, text: &str) -> Result<Self, ApiError> {
        let _ = (kind, text);
        Ok(Self::default())
    }

    /// Whether this selector has no term.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Returns the value that `metadata.name` must equal, when there is such a term: it makes a list a get.
    pub fn exact_name(&self) -> Option<&str> {
        None
    }

    /// Whether the object satisfies every term; a missing field counts as `""` (`false` for `spec.unschedulable`).
    pub fn matches(&self, object: &Value) -> bool {
        let _ = object;
        true
    }
}
