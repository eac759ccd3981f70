//! JoinTokens and NodeKeys.

use serde_json::Value;

use super::{
    Column, age,
    column::{AGE, NAME, Printer, items, text},
};
use crate::object::{self, at, str_at};

pub(super) const TOKEN: Printer = Printer {
    columns: &[
        NAME,
        text("Uses", "How many nodes have joined with the token, of how many that may."),
        text("Expires", "When the token ends."),
        text("Description", "What the token is for."),
        AGE,
    ],
    cells: token,
};

pub(super) const NODE_KEY: Printer = Printer {
    columns: &[
        NAME,
        text("Join-Token", "The token that the node joined with."),
        Column {
            name: "Revoked",
            kind: "boolean",
            format: "",
            description: "Whether the key, and each certificate of it, is refused.",
            priority: 0,
        },
        AGE,
    ],
    cells: node_key,
};

fn token(object: &Value, now_secs: i64) -> Vec<Value> {
    let allowed = at(object, &["spec", "maxUses"]).and_then(Value::as_i64).unwrap_or(0);
    vec![
        object::name(object).into(),
        format!("{}/{allowed}", items(object, &["status", "nodes"]).len()).into(),
        str_at(object, &["spec", "expirationTimestamp"]).into(),
        str_at(object, &["spec", "description"]).into(),
        age::of(object, now_secs).into(),
    ]
}

fn node_key(object: &Value, now_secs: i64) -> Vec<Value> {
    let revoked = at(object, &["spec", "revoked"]).and_then(Value::as_bool).unwrap_or(false);
    vec![
        object::name(object).into(),
        str_at(object, &["spec", "joinToken"]).into(),
        revoked.into(),
        age::of(object, now_secs).into(),
    ]
}
