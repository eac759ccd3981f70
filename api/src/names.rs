//! Names, label keys and values: the rules of RFC 1123 and RFC 1035 as Kubernetes applies them.
//!
//! Every check returns the sentences that a client sees, none when the text is good. The rules are written out as
//! byte scans rather than as regular expressions, so their time is linear in the text; the expression is only shown.

/// Longest DNS label, label value and name part of a qualified name, in bytes (RFC 1123).
pub const LABEL_LENGTH_MAX: usize = 63;
/// Longest DNS subdomain, in bytes.
pub const SUBDOMAIN_LENGTH_MAX: usize = 253;
/// Most bytes that all annotations of an object may have together, keys and values counted.
pub const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// Characters of generated suffixes: no vowels and no digits that look like them, so that no word appears.
const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;

const LABEL_EXPRESSION: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const LABEL_1035_EXPRESSION: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_EXPRESSION: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED_EXPRESSION: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE_EXPRESSION: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";

/// Checks an RFC 1123 label: Namespaces, containers, volumes.
pub fn dns_label(text: &str) -> Vec<String> {
    let mut errors = too_long(text, LABEL_LENGTH_MAX);
    if !is_label(text) {
        errors.push(format!(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
             end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
             '{LABEL_EXPRESSION}')"
        ));
    }
    errors
}

/// Checks an RFC 1035 label, which must start with a letter: Services.
pub fn dns_label_1035(text: &str) -> Vec<String> {
    let mut errors = too_long(text, LABEL_LENGTH_MAX);
    if !(is_label(text) && text.starts_with(|first: char| first.is_ascii_lowercase())) {
        errors.push(format!(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
             validation is '{LABEL_1035_EXPRESSION}')"
        ));
    }
    errors
}

/// Checks an RFC 1123 subdomain: the names of most kinds.
pub fn dns_subdomain(text: &str) -> Vec<String> {
    let mut errors = too_long(text, SUBDOMAIN_LENGTH_MAX);
    if !text.split('.').all(is_label) {
        errors.push(format!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '{SUBDOMAIN_EXPRESSION}')"
        ));
    }
    errors
}

/// Checks a name that only has to be one segment of a URL path: RBAC kinds.
pub fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    if crate::mutants::active("A06-slash-in-a-name") {
        return Vec::new();
    }
    let refused = ['/', '%'].into_iter().filter(|character| text.contains(*character));
    let mut errors: Vec<String> = refused.map(|character| format!("may not contain '{character}'")).collect();
    // No URL can name such an object: it could be made and never be deleted (found by fuzzing).
    if text.chars().any(char::is_control) {
        errors.push("may not contain control characters".to_owned());
    }
    errors
}

/// Checks a label key or another qualified name: `name` or `example.com/name`.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let name = match text.split_once('/') {
        None => text,
        Some((_, rest)) if rest.contains('/') => {
            return vec![format!(
                "a qualified name {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                qualified_message()
            )];
        }
        Some(("", name)) => {
            errors.push("prefix part must be non-empty".to_owned());
            name
        }
        Some((prefix, name)) => {
            errors.extend(dns_subdomain(prefix).into_iter().map(|message| format!("prefix part {message}")));
            name
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_LENGTH_MAX {
        errors.push(format!("name part must be no more than {LABEL_LENGTH_MAX} characters"));
    }
    if !is_qualified(name) {
        errors.push(format!("name part {}", qualified_message()));
    }
    errors
}

/// Checks a label value, which may be empty.
pub fn label_value(text: &str) -> Vec<String> {
    let mut errors = too_long(text, LABEL_LENGTH_MAX);
    if !text.is_empty() && !is_qualified(text) {
        errors.push(format!(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
             for validation is '{LABEL_VALUE_EXPRESSION}')"
        ));
    }
    errors
}

/// Checks the name of an environment variable: any printable ASCII but `=` (the relaxed rule of Kubernetes 1.32).
pub fn env_var(text: &str) -> Vec<String> {
    let printable = !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=');
    if printable {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other than '=' (e.g. \
         'my.env-name',  or 'MY_ENV.NAME',  or 'MyEnvName1', regex used for validation is '^[ -<>-~]+$')"
            .to_owned(),
    ]
}

/// Checks a key of a ConfigMap or Secret, which becomes a file name.
pub fn config_key(text: &str) -> Vec<String> {
    let mut errors = too_long(text, SUBDOMAIN_LENGTH_MAX);
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
        errors.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
             'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                .to_owned(),
        );
    }
    match text {
        "." => errors.push("must not be '.'".to_owned()),
        ".." => errors.push("must not be '..'".to_owned()),
        other if other.starts_with("..") => errors.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errors
}

/// Checks a named port (`IANA_SVC_NAME`, RFC 6335): `http`, `grpc-web`.
pub fn port_name(text: &str) -> Vec<String> {
    let mut errors = too_long(text, 15);
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if text.is_empty() || !text.bytes().all(|byte| alphanumeric(byte) || byte == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        errors.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_owned());
    }
    errors
}

/// Checks the name of an HTTP header in a probe or hook.
pub fn http_header(text: &str) -> Vec<String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Vec::new();
    }
    vec![
        "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for \
         validation is '[-A-Za-z0-9]+')"
            .to_owned(),
    ]
}

/// Checks a port number.
pub fn port_number(port: i64) -> Vec<String> {
    in_range(port, 1, 65_535)
}

/// Checks that a number is between two bounds, both included.
pub fn in_range(number: i64, low: i64, high: i64) -> Vec<String> {
    if (low..=high).contains(&number) {
        return Vec::new();
    }
    vec![format!("must be between {low} and {high}, inclusive")]
}

/// Completes `metadata.generateName`: the base, cut to fit a label, and five characters taken from `random`.
///
/// The same arguments give the same name; callers pass fresh randomness and try again when the name is taken.
pub fn generate(base: &str, random: u64) -> String {
    let mut cut = base.len().min(LABEL_LENGTH_MAX - SUFFIX_LENGTH);
    while !base.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut name = base[..cut].to_owned();
    let mut left = random;
    for _ in 0..SUFFIX_LENGTH {
        let index = usize::try_from(left % 27).expect("a remainder below 27 fits");
        name.push(char::from(SUFFIX_ALPHABET[index]));
        left /= 27;
    }
    name
}

/// Maps every byte of a text onto the alphabet of generated suffixes: how `pod-template-hash` values are spelled.
pub fn safe_encode(text: &str) -> String {
    text.bytes().map(|byte| char::from(SUFFIX_ALPHABET[usize::from(byte) % 27])).collect()
}

fn too_long(text: &str, max: usize) -> Vec<String> {
    if text.len() <= max { Vec::new() } else { vec![format!("must be no more than {max} characters")] }
}

fn is_label(text: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
}

fn is_qualified(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn qualified_message() -> String {
    format!(
        "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
         character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{QUALIFIED_EXPRESSION}')"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "cases read better as plain values")]
    fn only(messages: Vec<String>) -> String {
        messages.join(" | ")
    }

    #[test]
    fn a_path_segment_has_no_control_character() {
        assert_eq!(path_segment("system:a b"), [""; 0]);
        assert_eq!(path_segment("a\0b"), ["may not contain control characters"]);
    }

    #[test]
    fn good_names_pass() {
        assert!(dns_label("web-1").is_empty());
        assert!(dns_label_1035("web-1").is_empty());
        assert!(dns_subdomain("a.b-c.d1").is_empty());
        assert!(path_segment("system:node").is_empty());
        assert!(qualified_name("app.kubernetes.io/name").is_empty());
        assert!(qualified_name("Some_Key.1").is_empty());
        assert!(label_value("").is_empty());
        assert!(label_value("v1.2_3-x").is_empty());
        assert!(env_var("1 odd.NAME").is_empty());
        assert!(config_key("app.properties").is_empty());
        assert!(port_name("http-2").is_empty());
    }

    #[test]
    fn hostile_names_are_refused() {
        for name in ["", "../../x", "..", "a/b", "Web", "раypal", "a\u{202e}b", "-a", "a-", "a b", "a\nb", "a\0"] {
            assert!(!dns_label(name).is_empty(), "{name:?}");
            assert!(!dns_subdomain(name).is_empty(), "{name:?}");
        }
        for name in ["../../x", "..", ".", "a/b", "a%2fb"] {
            assert!(!path_segment(name).is_empty(), "{name:?}");
        }
        assert!(!dns_subdomain(&"a".repeat(254)).is_empty());
        assert!(!dns_label(&"a".repeat(64)).is_empty());
        assert!(!dns_label_1035("1a").is_empty());
        assert!(!dns_subdomain("a..b").is_empty());
    }

    #[test]
    fn messages_are_those_of_kubernetes() {
        assert_eq!(
            only(dns_subdomain("A")),
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        );
        assert_eq!(
            only(dns_label("A")),
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
             end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        );
        assert_eq!(only(path_segment("a/b%")), "may not contain '/' | may not contain '%'");
        assert_eq!(only(path_segment("..")), "may not be '..'");
        assert_eq!(only(config_key("..x")), "must not start with '..'");
        assert_eq!(only(port_name("8080")), "must contain at least one letter (a-z)");
        assert_eq!(only(port_number(0)), "must be between 1 and 65535, inclusive");
        assert!(only(qualified_name("a/b/c")).starts_with("a qualified name must consist of"));
        assert!(only(qualified_name("/x")).starts_with("prefix part must be non-empty"));
        assert!(only(qualified_name("")).starts_with("name part must be non-empty | name part must consist"));
    }

    #[test]
    fn a_generated_name_is_the_base_and_five_characters() {
        assert_eq!(generate("web-", 0), "web-bbbbb");
        assert_eq!(generate(&"a".repeat(80), 1).len(), 63);
    }

    proptest! {
        #[test]
        fn generated_names_stay_labels(base in "[a-z]([-a-z0-9]{0,80})?", random: u64) {
            prop_assert!(dns_label(&generate(&base, random)).is_empty());
        }

        #[test]
        fn checks_are_total(text: String, random: u64) {
            for check in [dns_label, dns_label_1035, dns_subdomain, path_segment, qualified_name, label_value, env_var,
                config_key, port_name, http_header] {
                check(&text);
            }
            generate(&text, random);
        }
    }
}
