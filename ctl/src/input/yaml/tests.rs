use serde_json::json;

use super::*;

#[test]
fn documents_are_read_in_order_and_empty_ones_left_out() {
    let text = "# comment\n---\na: 1\n---\n---\nb: {c: [x, 'y']}\n...\n";
    assert_eq!(parse(text).unwrap(), [json!({"a": 1}), json!({"b": {"c": ["x", "y"]}})]);
}

#[test]
fn scalars_get_the_types_that_kubernetes_clients_give_them() {
    let text = "mode: 0644\nport: 80\nquoted: \"80\"\nshare: 0.5\non: true\nnone: ~\nversion: 1.2.3\ntime: 2026-01-02T03:04:05Z\n";
    let expected = json!({"mode": 420, "port": 80, "quoted": "80", "share": 0.5, "on": true, "none": null,
        "version": "1.2.3", "time": "2026-01-02T03:04:05Z"});
    assert_eq!(parse(text).unwrap(), [expected]);
}

#[test]
fn json_is_yaml() {
    assert_eq!(
        parse(r#"{"a": {"b": [1, true, null, "x\n"]}}"#).unwrap(),
        [json!({"a": {"b": [1, true, null, "x\n"]}})]
    );
}

#[test]
fn a_key_that_stands_twice_is_refused_with_its_line() {
    assert_eq!(parse("a: 1\nb: 2\na: 3\n").unwrap_err().line, 3);
    parse(r#"{"a": 1, "a": 2}"#).unwrap_err();
}

#[test]
fn anchors_and_merge_keys_work_within_reason() {
    let text = "base: &b {cpu: 1}\none: *b\ntwo:\n  <<: *b\n  memory: 2\n";
    assert_eq!(parse(text).unwrap(), [json!({"base": {"cpu": 1}, "one": {"cpu": 1}, "two": {"cpu": 1, "memory": 2}})]);
}

#[test]
fn an_alias_bomb_is_refused_before_it_grows() {
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (name, inner) in "bcdefghi".chars().zip("abcdefgh".chars()) {
        let list = vec![format!("*{inner}"); 9].join(",");
        bomb.push_str(&format!("{name}: &{name} [{list}]\n"));
    }
    parse(&bomb).unwrap_err();
}

#[test]
fn deep_nesting_too_many_documents_and_huge_texts_are_refused() {
    parse(&"[".repeat(100_000)).unwrap_err();
    parse(&format!("{}x{}", "{a: ".repeat(5_000), "}".repeat(5_000))).unwrap_err();
    parse(&"---\na: 1\n".repeat(DOCUMENTS_MAX + 1)).unwrap_err();
    parse(&" ".repeat(BYTES_MAX + 1)).unwrap_err();
}

#[test]
fn what_is_written_reads_back_the_same() {
    let value = json!({"apiVersion": "v1", "data": {"a": "line\nline\n", "b": "true", "c": "0644", "d": "", "e": " x", "f": "1e3",
        "g": "yes", "h": "a: b", "i": "~", "j": "#x", "k": "\u{1b}[0m", "l": "- x"}, "list": [{"name": "x", "ports": [1, 2]}, []], "map": {}});
    assert_eq!(parse(&to_yaml(&value)).unwrap(), [value]);
}
