//! Placement in the words of classic Swarm: `constraint:region==us*`, `affinity:image==redis`, soft with `~`.
//!
//! They come as environment entries of a pod's containers, as `docker run -e` had them, or as the JSON arrays of the
//! annotations [`CONSTRAINTS`] and [`AFFINITIES`]. The grammar is the code's of Swarm 1.2, which is stricter than its
//! documentation: a key of two characters or more, `==` or `!=`, and a value that is a glob (`*` alone is special) or, in
//! slashes, a regular expression found anywhere. Two things are wider: keys may hold `/`, as labels of nodes do, and `.`
//! in a glob is only itself.

use std::{fmt, str::FromStr};

use regex::{Regex, RegexBuilder};

/// The annotation with constraints: a JSON array of expressions.
pub const CONSTRAINTS: &str = "com.docker.swarm.constraints";
/// The annotation with affinities.
pub const AFFINITIES: &str = "com.docker.swarm.affinities";
/// The annotation with what becomes of the pod when its node fails: `["on-node-failure"]` or `["off"]`.
pub const RESCHEDULE: &str = "com.docker.swarm.reschedule-policies";
/// The label of a node that says how many pods it takes at most.
pub const SLOTS: &str = "containerslots";

const CONSTRAINT_PREFIX: &str = "constraint:";
const AFFINITY_PREFIX: &str = "affinity:";
const RESCHEDULE_PREFIX: &str = "reschedule:";
/// What a compiled expression may occupy.
const PATTERN_BYTES_MAX: usize = 64 << 10;
/// Most expressions of a pod, and the longest of them.
const EXPRESSIONS_MAX: usize = 64;
const EXPRESSION_BYTES_MAX: usize = 1024;

/// One expression.
#[derive(Clone)]
pub struct Expression {
    /// What is looked at.
    pub key: String,
    /// Whether it must not match.
    pub negated: bool,
    /// Whether it only prefers.
    pub soft: bool,
    text: String,
    pattern: Regex,
}

/// What a pod asks for in these words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// About the node.
    pub constraints: Vec<Expression>,
    /// About the containers and images on it.
    pub affinities: Vec<Expression>,
    /// Whether it goes elsewhere when its node fails, though nobody but its user made it.
    pub on_node_failure: bool,
}

/// An expression that is none, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {why}")]
pub struct Mistake {
    /// The annotation, or the entry of the environment.
    pub place: String,
    /// What is wrong.
    pub why: String,
}

impl Expression {
    /// Whether a value matches, without regard to the operator.
    pub fn matches(&self, value: &str) -> bool {
        self.pattern.is_match(value)
    }

    /// Whether the expression holds where these values are: one must match, or, negated, none may. What has no value has
    /// the empty one.
    pub fn holds<'a>(&self, values: impl Iterator<Item = &'a str>) -> bool {
        let mut values = values.peekable();
        let any = if values.peek().is_none() { self.matches("") } else { values.any(|value| self.matches(value)) };
        any != self.negated
    }
}

impl FromStr for Expression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(format!("may not be longer than {EXPRESSION_BYTES_MAX} bytes"));
        }
        let operator = text.find("==").into_iter().chain(text.find("!=")).min();
        let at = operator.ok_or("One of operator ==, != is expected")?;
        let (key, value) = (&text[..at], &text[at + 2..]);
        let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        let later = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        if key.len() < 2 || !first(key.as_bytes()[0]) || !key.bytes().skip(1).all(later) {
            return Err(format!(
                "key {key:?} must be two or more letters, digits, -, _, . or /, and begin with a letter or _"
            ));
        }
        let (soft, value) = value.strip_prefix('~').map_or((false, value), |value| (true, value));
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b":-_ .*/()?+[]\\^$|=".contains(&byte);
        if value.is_empty() || !value.bytes().all(known) {
            return Err(format!(
                "value {value:?} must not be empty, nor hold other than letters, digits and : - _ . * / ( ) ? + [ ] \\ ^ $ |"
            ));
        }
        let pattern = match value.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            Some(expression) => expression.to_owned(),
            None => format!("^{}$", value.split('*').map(regex::escape).collect::<Vec<_>>().join(".*")),
        };
        let pattern = RegexBuilder::new(&pattern).size_limit(PATTERN_BYTES_MAX).build();
        let pattern = pattern.map_err(|error| format!("value {value:?} is no regular expression: {error}"))?;
        Ok(Self { key: key.to_owned(), negated: text[at..].starts_with('!'), soft, text: text.to_owned(), pattern })
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}

impl fmt::Debug for Expression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.text)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Rules {
    /// Reads a pod's annotations and the environment entries of its containers.
    ///
    /// # Errors
    /// The first [`Mistake`].
    pub fn read<'a>(
        annotations: impl Iterator<Item = (&'a str, &'a str)>,
        environment: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Mistake> {
        let mut rules = Self::default();
        for (key, value) in annotations {
            let mistake = |why: String| Mistake { place: format!("annotation {key}"), why };
            let list = match key {
                CONSTRAINTS => &mut rules.constraints,
                AFFINITIES => &mut rules.affinities,
                RESCHEDULE => {
                    let policies: Vec<String> = serde_json::from_str(value)
                        .map_err(|_| mistake("must be a JSON array, such as [\"on-node-failure\"]".to_owned()))?;
                    for policy in policies {
                        rules.on_node_failure = reschedules(&policy).map_err(mistake)?;
                    }
                    continue;
                }
                _ => continue,
            };
            let texts: Vec<String> = serde_json::from_str(value)
                .map_err(|_| mistake("must be a JSON array of expressions, such as [\"region==us*\"]".to_owned()))?;
            for text in texts {
                list.push(text.parse().map_err(|why| mistake(format!("{text:?}: {why}")))?);
            }
        }
        for (name, value) in environment.filter(|(name, _)| is_entry(name)) {
            let entry = format!("{name}={value}");
            let mistake = |why: String| Mistake { place: format!("environment entry {entry:?}"), why };
            if let Some(policy) = entry.strip_prefix(RESCHEDULE_PREFIX) {
                rules.on_node_failure = reschedules(policy.trim_end_matches('=')).map_err(mistake)?;
                continue;
            }
            let (list, text) = match entry.strip_prefix(CONSTRAINT_PREFIX) {
                Some(text) => (&mut rules.constraints, text),
                None => (&mut rules.affinities, entry.strip_prefix(AFFINITY_PREFIX).unwrap_or_default()),
            };
            list.push(text.parse().map_err(mistake)?);
        }
        let count = rules.constraints.len() + rules.affinities.len();
        if count > EXPRESSIONS_MAX {
            let why = format!("{count} expressions: may not be more than {EXPRESSIONS_MAX}");
            return Err(Mistake { place: "placement".to_owned(), why });
        }
        Ok(rules)
    }
}

/// Whether an environment entry of this name is for placement, and not for the container.
pub fn is_entry(name: &str) -> bool {
    [CONSTRAINT_PREFIX, AFFINITY_PREFIX, RESCHEDULE_PREFIX].iter().any(|prefix| name.starts_with(prefix))
}

fn reschedules(policy: &str) -> Result<bool, String> {
    match policy {
        "on-node-failure" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("policy {policy:?} must be on-node-failure or off")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_match_as_in_swarm() {
        for (text, yes, no) in [
            ("storage==ssd", vec!["ssd"], vec!["ssd2", "hdd", "", "SSD"]),
            ("region==us*", vec!["us", "us-east"], vec!["eu-us", ""]),
            ("region!=us*", vec!["eu", ""], vec!["us-east"]),
            ("node==/node[12]/", vec!["node1", "my-node2x"], vec!["node3"]),
            ("node==/(?i)node1/", vec!["NODE1", "node1"], vec!["node2"]),
            ("node!=/^n.$/", vec!["node"], vec!["n1"]),
            ("version==1.2", vec!["1.2"], vec!["1x2"]),
            ("region==~us*", vec!["us"], vec!["eu"]),
        ] {
            let expression: Expression = text.parse().unwrap();
            assert_eq!(expression.soft, text.contains('~'), "{text}");
            for value in yes {
                assert!(expression.holds([value].into_iter()), "{text} {value:?}");
            }
            for value in no {
                assert!(!expression.holds([value].into_iter()), "{text} {value:?}");
            }
        }
        let absent: Expression = "storage!=ssd".parse().unwrap();
        assert!(absent.holds(std::iter::empty()), "SW-04: a label that is not there is the empty one");
        let any: Expression = "image==redis*".parse().unwrap();
        assert!(any.holds(["web", "redis:7"].into_iter()));
    }

    #[test]
    fn what_is_no_expression_is_refused_with_the_reason() {
        for (text, why) in [
            ("storage=ssd", "One of operator ==, != is expected"),
            ("storage", "One of operator"),
            ("s==ssd", "key \"s\" must be two or more"),
            ("1a==ssd", "key \"1a\""),
            ("a b==ssd", "key \"a b\""),
            ("storage==", "value \"\" must not be empty"),
            ("storage==~", "value \"\" must not be empty"),
            ("storage==a;b", "value \"a;b\""),
            ("storage==/(/", "is no regular expression"),
            ("storage==/(((((a*)*)*)*)*){1}(b+){9}/", "value"),
        ] {
            let error = text.parse::<Expression>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(format!("ab=={}", "x".repeat(2000)).parse::<Expression>().is_err());
        assert!("ab==/a*(a*(a*(a*(a*(a*)+)+)+)+)+/".parse::<Expression>().is_ok(), "no pattern takes exponential time");
    }

    #[test]
    fn rules_come_from_the_environment_and_from_annotations() {
        let annotations =
            [(CONSTRAINTS, r#"["region==us-east"]"#), (AFFINITIES, r#"["image==redis"]"#), ("other", "x")];
        let environment = [
            ("constraint:storage", "=ssd"),
            ("constraint:region!", "eu*"),
            ("affinity:container", "=~web"),
            ("PATH", "/"),
        ];
        let rules = Rules::read(annotations.into_iter(), environment.into_iter()).unwrap();
        let texts = |list: &[Expression]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&rules.constraints), ["region==us-east", "storage==ssd", "region!=eu*"]);
        assert_eq!(texts(&rules.affinities), ["image==redis", "container==~web"]);
        let wrong = |annotations: &[(&'static str, &'static str)], environment: &[(&'static str, &'static str)]| {
            Rules::read(annotations.iter().copied(), environment.iter().copied()).unwrap_err().to_string()
        };
        assert!(
            wrong(&[(CONSTRAINTS, "x")], &[])
                .starts_with("annotation com.docker.swarm.constraints: must be a JSON array")
        );
        assert_eq!(
            wrong(&[], &[("constraint:storage", "ssd")]),
            "environment entry \"constraint:storage=ssd\": One of operator ==, != is expected"
        );
        assert!(!rules.on_node_failure);
        let policy = |annotations: &[(&'static str, &'static str)], environment: &[(&'static str, &'static str)]| {
            Rules::read(annotations.iter().copied(), environment.iter().copied()).map(|rules| rules.on_node_failure)
        };
        assert_eq!(policy(&[(RESCHEDULE, r#"["on-node-failure"]"#)], &[]), Ok(true));
        assert_eq!(policy(&[(RESCHEDULE, r#"["off"]"#)], &[]), Ok(false));
        assert_eq!(policy(&[], &[("reschedule:on-node-failure", "")]), Ok(true));
        assert_eq!(
            wrong(&[], &[("reschedule:always", "")]),
            "environment entry \"reschedule:always=\": policy \"always\" must be on-node-failure or off"
        );
        let many = vec![("constraint:storage", "=ssd"); 65];
        assert!(wrong(&[], &many).contains("may not be more than 64"));
    }
}
