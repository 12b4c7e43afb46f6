//! What a key may be without a value, or with one of another kind; and where its default is from then.

use crate::render::{ROOT, defaults, merge};
use crate::reviewed::tried;
use serde_json::{Value, json};

/// The keys of maps, and those of everything else, as paths.
fn paths(value: &Value, path: &mut Vec<String>, maps: &mut Vec<Vec<String>>, leaves: &mut Vec<Vec<String>>) {
    for (key, inner) in value.as_object().unwrap() {
        path.push(key.clone());
        if inner.as_object().is_some_and(|map| !map.is_empty()) {
            maps.push(path.clone());
            paths(inner, path, maps, leaves);
        } else {
            leaves.push(path.clone());
        }
        path.pop();
    }
}

fn set(path: &[String], value: &Value) -> Value {
    path.iter().rev().fold(value.clone(), |inner, key| json!({ key.as_str(): inner }))
}

/// What is wrong with what comes of a value of some key; a message must name it.
fn wrong(key: &str, result: &Result<Vec<Value>, String>) -> Option<String> {
    match result {
        Ok(objects) => {
            let all = json!(objects).to_string();
            let words = ["map[", "<nil>", "<no value>"].iter().find(|word| all.contains(**word));
            words.map(|word| format!("{word} is in what is rendered"))
        }
        Err(said) if said.contains("nil pointer") || !said.contains(key) => Some(said.clone()),
        Err(_) => None,
    }
}

#[test]
fn every_key_set_to_null_a_number_a_list_or_a_quote_renders_or_is_named() {
    let (mut maps, mut leaves) = (Vec::new(), Vec::new());
    paths(&defaults(), &mut Vec::new(), &mut maps, &mut leaves);
    assert!(maps.len() > 60 && leaves.len() > 250, "{} maps and {} other keys", maps.len(), leaves.len());
    let mut mistakes = Vec::new();
    let mut try_one = |path: &[String], value: &Value| {
        let result = tried(&set(path, value))?;
        mistakes.extend(wrong(path.last()?, &result).map(|wrong| format!("{}: {value}: {wrong}", path.join("."))));
        Some(())
    };
    for value in [json!(7), json!(["a"]), json!("it's \"quoted\"")] {
        // The schema tells of all at once; what it has no objection to is rendered alone.
        let mut all = json!({});
        for path in &leaves {
            merge(&mut all, &set(path, &value));
        }
        let Some(Err(said)) = tried(&all) else { return };
        for path in leaves.iter().filter(|path| !said.contains(&format!("'/{}", path.join("/")))) {
            if try_one(path, &value).is_none() {
                return;
            }
        }
    }
    for path in &maps {
        try_one(path, &Value::Null);
    }
    assert!(mistakes.is_empty(), "{} mistakes:\n{}", mistakes.len(), mistakes.join("\n"));

    // A key without a value has its default, unless null means something.
    let meant = ["replicas", "num_workers", "uid", "gid", "ttl", "cpu", "memory"];
    let mut nulls = json!({});
    let plain = leaves.iter().filter(|path| !meant.contains(&path.last().unwrap().as_str()));
    for path in plain {
        merge(&mut nulls, &set(path, &Value::Null));
    }
    assert_eq!(tried(&nulls), tried(&json!({})));
    for key in meant {
        for path in leaves.iter().filter(|path| path.last().unwrap() == key) {
            let result = tried(&set(path, &Value::Null)).unwrap();
            assert_eq!(wrong(key, &result), None, "{path:?}");
        }
    }
}

#[test]
fn values_of_a_release_of_an_older_chart_are_enough() {
    // As `helm upgrade --reuse-values` has them: no key that came later.
    let old = json!({ "airflow": { "env": null, "envFrom": null, "labels": null, "webserver_config": null }, "disk": null,
        "cleanup": null, "labels": null, "scheduling": null, "extra_objects": null, "nameOverride": null,
        "ingress": { "web": null, "flower": null }, "roles": { "worker": { "keda": null, "service_account": null, "disk": null } } });
    let Some(Ok(objects)) = tried(&old) else { panic!("{:?}", tried(&old)) };
    let Some(Ok(defaults)) = tried(&json!({})) else { return };
    assert_eq!(objects, defaults);
}

#[test]
fn the_defaults_that_templates_know_are_the_values() {
    let mut known = crate::render::read(&format!("{ROOT}/k8s/chart/tables/defaults.yaml"));
    let values = defaults();
    merge(&mut known, &values);
    assert_eq!(known, values);
    let read = |path: &str| std::fs::read_to_string(format!("{ROOT}/k8s/chart/{path}")).unwrap();
    assert_eq!(read("tables/defaults.yaml"), read("values.yaml"));
}
