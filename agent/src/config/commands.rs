//! `$(NAME)` in commands and arguments.

/// Expands `$(NAME)` from the environment; `$$(NAME)` is the text `$(NAME)`, an unknown name stays as it is.
pub fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        if let Some(after) = tail.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = tail.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match env.iter().rev().find(|(known, _)| known == name) {
                Some((_, value)) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
            rest = tail;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn variables_expand_as_kubernetes_says() {
        let env =
            [("A".to_owned(), "1".to_owned()), ("A".to_owned(), "2".to_owned()), ("B".to_owned(), "$(A)".to_owned())];
        let table = [
            ("$(A)", "2"),
            ("x$(A)y$(B)", "x2y$(A)"),
            ("$$(A)", "$(A)"),
            ("$(C)", "$(C)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("$$$(A)", "$2"),
        ];
        for (text, expanded) in table {
            assert_eq!(expand(text, &env), expanded, "{text}");
        }
    }
}
