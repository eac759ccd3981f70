use std::collections::BTreeMap;

use super::*;
use crate::{
    decode::tests::any_json,
    patch::{keys, lookup::Lookup},
    schema::Merge,
};

/// Parts of Deployments that exercise every strategy.
fn deployments() -> impl Strategy<Value = Value> {
    let names = || prop::sample::subsequence(vec!["a", "b", "c", "d"], 0..4).prop_shuffle();
    let map = || prop::collection::btree_map("[a-c]", "[0-9]", 0..3);
    let env = names().prop_flat_map(|names| {
        let values = prop::collection::vec("[0-9]", names.len());
        values.prop_map(move |values| -> Value {
            names.iter().zip(values).map(|(name, value)| json!({"name": name, "value": value})).collect()
        })
    });
    let container = (env, prop::collection::vec("[a-c]", 0..3), prop::option::of("[0-9]"));
    let containers = (names(), prop::collection::vec(container, 4)).prop_map(|(names, parts)| -> Value {
        names
            .iter()
            .zip(parts)
            .map(|(name, (env, args, image))| {
                let mut container = json!({"name": name, "env": env, "args": args});
                if let Some(image) = image {
                    container["image"] = json!(image);
                }
                container
            })
            .collect()
    });
    let volume = prop::sample::select(vec![json!({"emptyDir": {}}), json!({"hostPath": {"path": "/"}}), json!({})]);
    let volumes = (names(), prop::collection::vec(volume, 4)).prop_map(|(names, parts)| -> Value {
        let with_name = |(name, mut volume): (&&str, Value)| {
            volume["name"] = json!(name);
            volume
        };
        names.iter().zip(parts).map(with_name).collect()
    });
    let strategy = prop::sample::select(vec![
        json!({"type": "Recreate"}),
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}),
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "1%"}}),
    ]);
    let optional = |key: &'static str, part: BoxedStrategy<Value>| {
        prop::option::of(part).prop_map(move |part| part.map(|part| (key.to_owned(), part)))
    };
    let to_json = |map: BTreeMap<String, String>| json!(map);
    let meta = (
        optional("labels", map().prop_map(to_json).boxed()),
        optional("finalizers", names().prop_map(|names| json!(names)).boxed()),
    );
    let spec = (optional("strategy", strategy.boxed()), optional("replicas", (0..3).prop_map(Value::from).boxed()));
    let pod = (
        optional("containers", containers.boxed()),
        optional("volumes", volumes.boxed()),
        optional("nodeSelector", map().prop_map(to_json).boxed()),
    );
    (meta, spec, pod).prop_map(|(meta, spec, pod)| {
        let meta: Value = [meta.0, meta.1].into_iter().flatten().collect();
        let pod: Value = [pod.0, pod.1, pod.2].into_iter().flatten().collect();
        let mut spec: Value = [spec.0, spec.1].into_iter().flatten().collect();
        spec["template"] = json!({ "spec": pod });
        json!({"metadata": meta, "spec": spec})
    })
}

/// Whether `result` holds everything that `wanted` sets.
fn holds(lookup: &Lookup, result: &Value, wanted: &Value) -> bool {
    match (result, wanted) {
        (Value::Object(result), Value::Object(wanted)) => {
            let is_exact = !lookup.retain_keys || result.len() == wanted.len();
            is_exact
                && wanted.iter().all(|(key, value)| {
                    result.get(key).is_some_and(|result| holds(&Lookup::field(lookup.ty, key), result, value))
                })
        }
        (Value::Array(result), Value::Array(wanted)) if lookup.merge != Merge::Never => {
            let places = keys::positions(result, lookup.merge);
            let found: Option<Vec<usize>> =
                wanted.iter().map(|item| places.get(&keys::find(item, lookup.merge)?).copied()).collect();
            let item = Lookup { retain_keys: lookup.retain_keys, ..Lookup::plain(lookup.item()) };
            found.is_some_and(|found| {
                found.is_sorted()
                    && found.iter().zip(wanted).all(|(place, wanted)| holds(&item, &result[*place], wanted))
            })
        }
        (result, wanted) => result == wanted,
    }
}

proptest! {
    #[test]
    fn an_apply_gives_what_is_wanted_and_then_has_nothing_to_do(
        original in deployments(), modified in deployments(), current in deployments(),
    ) {
        let kind = deployment();
        let patch = three_way_strategic(kind, &original, &modified, &current).unwrap();
        let result = strategic_merge(kind, &current, &patch).unwrap();
        prop_assert!(holds(&Lookup::plain(type_of(kind)), &result, &modified), "{patch} made {result} of {current}");
        prop_assert_eq!(strategic_merge(kind, &result, &patch).unwrap(), result.clone());
        prop_assert_eq!(three_way_strategic(kind, &modified, &modified, &result).unwrap(), json!({}));
    }

    #[test]
    fn an_apply_of_what_is_there_changes_nothing(current in deployments()) {
        prop_assert_eq!(three_way_strategic(deployment(), &current, &current, &current).unwrap(), json!({}));
    }

    #[test]
    fn a_first_apply_onto_nothing_sets_exactly_what_is_wanted(modified in deployments()) {
        let patch = three_way_strategic(deployment(), &Value::Null, &modified, &json!({})).unwrap();
        prop_assert_eq!(strategic_merge(deployment(), &json!({}), &patch).unwrap(), modified);
    }

    #[test]
    fn no_documents_make_a_patch_panic(a in any_json(), b in any_json(), c in any_json(), which in 0..kinds::all().len()) {
        let kind = &kinds::all()[which];
        let _ = json_patch(&a, &b);
        let _ = merge_patch(&a, &b);
        let _ = three_way_merge(&a, &b, &c);
        let _ = three_way_strategic(kind, &a, &b, &c);
        if let Ok(once) = strategic_merge(kind, &a, &b) {
            prop_assert!(once.is_object());
        }
    }
}
