//! Label and field selectors.
//!
//! Both are parsed once, bounded, and then matched against objects without allocation. The text of a label selector
//! that [`LabelSelector`] prints parses back to the same selector.

use std::fmt;

use serde_json::{Map, Value};

use crate::{names, status::ApiError};

mod fields;
mod parse;

pub use fields::{FieldSelector, Fields};

/// Most requirements in one selector: each is checked against every object of a list.
const REQUIREMENTS_MAX: usize = 1_000;
/// Most values in all sets of one selector together.
const VALUES_MAX: usize = 10_000;

/// A parsed label selector; the default one matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

/// One condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Requirement {
    key: String,
    operator: Operator,
    /// Sorted and without duplicates.
    values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Operator {
    Equals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

impl LabelSelector {
    /// Parses the query form: `app=web,tier in (a,b),!legacy`.
    ///
    /// # Errors
    /// 400 with Kubernetes' wording.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        Self::bounded(parse::requirements(text).map_err(ApiError::bad_request)?)
    }

    /// Reads the object form (`matchLabels`, `matchExpressions`). An absent or empty selector matches everything.
    ///
    /// # Errors
    /// 400 for an unknown operator or malformed requirement.
    pub fn from_object(selector: &Value) -> Result<Self, ApiError> {
        let mut requirements = Vec::new();
        for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            let value = value.as_str().unwrap_or_default().to_owned();
            requirements.push(Requirement::new(key, Operator::Equals, vec![value]).map_err(ApiError::bad_request)?);
        }
        for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            requirements.push(Requirement::from_object(expression).map_err(ApiError::bad_request)?);
        }
        Self::bounded(requirements)
    }

    /// Builds the selector of a plain label map, as Services and ReplicationControllers have.
    ///
    /// # Errors
    /// 400 for a malformed key or value.
    pub fn from_map(labels: &Map<String, Value>) -> Result<Self, ApiError> {
        let equals = |(key, value): (&String, &Value)| {
            Requirement::new(key, Operator::Equals, vec![value.as_str().unwrap_or_default().to_owned()])
        };
        let requirements: Result<Vec<_>, String> = labels.iter().map(equals).collect();
        Self::bounded(requirements.map_err(ApiError::bad_request)?)
    }

    /// Whether this selector has no requirement.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether a label map satisfies every requirement.
    pub fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(labels))
    }

    fn bounded(mut requirements: Vec<Requirement>) -> Result<Self, ApiError> {
        let values: usize = requirements.iter().map(|requirement| requirement.values.len()).sum();
        if requirements.len() > REQUIREMENTS_MAX || values > VALUES_MAX {
            return Err(ApiError::bad_request(format!(
                "label selector is too large: at most {REQUIREMENTS_MAX} requirements and {VALUES_MAX} values"
            )));
        }
        requirements.sort();
        requirements.dedup();
        Ok(Self { requirements })
    }
}

impl Requirement {
    fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Self, String> {
        check_key(key)?;
        let problem = match (operator, values.as_slice()) {
            (Operator::In | Operator::NotIn, []) => Some("for 'in', 'notin' operators, values set can't be empty"),
            (Operator::Exists | Operator::DoesNotExist, [_, ..]) => {
                Some("values set must be empty for exists and does not exist")
            }
            (Operator::GreaterThan | Operator::LessThan, [bound]) if bound.parse::<i64>().is_err() => {
                return Err(format!(
                    "values[0]: Invalid value: {bound:?}: for 'Gt', 'Lt' operators, the value must be an integer"
                ));
            }
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(format!("values: Invalid value: {values:?}: {problem}"));
        }
        for (index, value) in values.iter().enumerate() {
            let messages = names::label_value(value);
            if !messages.is_empty() {
                return Err(format!("values[{index}][{key}]: Invalid value: {value:?}: {}", messages.join("; ")));
            }
        }
        values.sort();
        values.dedup();
        Ok(Self { key: key.to_owned(), operator, values })
    }

    fn from_object(expression: &Value) -> Result<Self, String> {
        let text = |field: &str| expression.get(field).and_then(Value::as_str).unwrap_or_default();
        let operator = match text("operator") {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => return Err(format!("{other:?} is not a valid label selector operator")),
        };
        let values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
        let values = values.map(|value| value.as_str().unwrap_or_default().to_owned()).collect();
        Self::new(text("key"), operator, values)
    }

    fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        let value = labels.and_then(|labels| labels.get(&self.key)).and_then(Value::as_str);
        match (self.operator, value) {
            (Operator::Exists, value) => value.is_some(),
            (Operator::DoesNotExist, value) => value.is_none(),
            (Operator::Equals | Operator::In, Some(value)) => self.has(value),
            (Operator::NotEquals | Operator::NotIn, Some(value)) => !self.has(value),
            (Operator::GreaterThan, Some(value)) => self.bound(value).is_some_and(|(value, bound)| value > bound),
            (Operator::LessThan, Some(value)) => self.bound(value).is_some_and(|(value, bound)| value < bound),
            (Operator::NotEquals | Operator::NotIn, None) => true,
            (Operator::Equals | Operator::In | Operator::GreaterThan | Operator::LessThan, None) => false,
        }
    }

    fn has(&self, value: &str) -> bool {
        self.values.binary_search_by(|candidate| candidate.as_str().cmp(value)).is_ok()
    }

    fn bound(&self, value: &str) -> Option<(i64, i64)> {
        Some((value.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, operator, values } = self;
        let values = values.join(",");
        match operator {
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

fn check_key(key: &str) -> Result<(), String> {
    let messages = names::qualified_name(key);
    if messages.is_empty() {
        return Ok(());
    }
    Err(format!("key: Invalid value: {key:?}: {}", messages.join("; ")))
}

#[cfg(test)]
mod tests;
