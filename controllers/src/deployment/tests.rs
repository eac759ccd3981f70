//! Rollouts step by step: against the reference model, against tables, and against the laws.

use std::sync::Arc;

use drover_invariants::check_invariants;
use expect_test::{Expect, expect};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::plan::{Action, Observed, Plan, plan};
use super::reference::{Model, Set};
use super::template_hash;

fn start() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

/// A Deployment, its ReplicaSets and a clock: what a pass sees, and what carries out its plan.
#[derive(Clone)]
struct World {
    deployment: Value,
    sets: Vec<Value>,
    pods: Vec<Value>,
    now: Timestamp,
}

impl World {
    fn new(replicas: i64, surge: &str, unavailable: &str) -> Self {
        let bound = |text: &str| text.parse::<i64>().map_or_else(|_| json!(text), |number| json!(number));
        let deployment = json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "d-1", "generation": 1},
            "spec": {"replicas": replicas, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 2,
                "selector": {"matchLabels": {"app": "web"}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": bound(surge), "maxUnavailable": bound(unavailable)}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}}}
        });
        Self { deployment, sets: vec![], pods: vec![], now: start() }
    }

    /// What the oracles look at.
    fn seen(&self) -> drover_invariants::World {
        drover_invariants::World {
            deployments: vec![serde_json::from_value(self.deployment.clone()).unwrap()],
            replica_sets: self.sets.iter().map(|set| serde_json::from_value(set.clone()).unwrap()).collect(),
            ..drover_invariants::World::default()
        }
    }

    fn image(&mut self, image: &str) {
        self.deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        self.bump();
    }

    fn bump(&mut self) {
        let generation = self.deployment["metadata"]["generation"].as_i64().unwrap();
        self.deployment["metadata"]["generation"] = json!(generation + 1);
    }

    fn resize(&mut self, replicas: i64) {
        self.deployment["spec"]["replicas"] = json!(replicas);
        self.bump();
    }

    fn set_of(&mut self, image: &str) -> &mut Value {
        let of = |set: &&mut Value| set["spec"]["template"]["spec"]["containers"][0]["image"] == json!(image);
        self.sets.iter_mut().find(of).unwrap()
    }

    fn plan(&self) -> Plan {
        let deployment: Deployment = serde_json::from_value(self.deployment.clone()).unwrap();
        let replica_sets: Vec<Arc<ReplicaSet>> =
            self.sets.iter().map(|set| Arc::new(serde_json::from_value(set.clone()).unwrap())).collect();
        let taken_names = replica_sets.iter().map(|set| set.metadata.name.clone().unwrap()).collect();
        let pods = self.pods.iter().map(|pod| Arc::new(serde_json::from_value(pod.clone()).unwrap())).collect();
        plan(&deployment, &Observed { replica_sets, pods, taken_names }, self.now)
    }

    /// One pass: plans, carries out, reports.
    fn pass(&mut self) -> Vec<String> {
        let plan = self.plan();
        for action in plan.ownership.iter().chain(&plan.actions) {
            self.enact(action);
        }
        self.deployment["status"] = serde_json::to_value(&plan.status).unwrap();
        plan.ownership.iter().chain(&plan.actions).map(|action| self.name_by_image(&action.to_string())).collect()
    }

    fn name_by_image(&self, text: &str) -> String {
        let names = self.sets.iter().map(|set| {
            let image = set["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
            (set["metadata"]["name"].as_str().unwrap().to_owned(), image)
        });
        names.fold(text.to_owned(), |text, (name, image)| text.replace(&name, &image))
    }

    fn enact(&mut self, action: &Action) {
        let position =
            |sets: &[Value], uid: &str| sets.iter().position(|set| set["metadata"]["uid"] == json!(uid)).unwrap();
        match action {
            Action::Create { replica_set, hash, replicas, annotations } => {
                let mut template = self.deployment["spec"]["template"].clone();
                template["metadata"]["labels"]["pod-template-hash"] = json!(hash);
                self.now += SignedDuration::from_secs(1);
                self.sets.push(json!({
                    "metadata": {"name": replica_set, "namespace": "shop", "uid": format!("uid-{replica_set}"), "generation": 1,
                        "creationTimestamp": self.now.to_string(), "annotations": annotations,
                        "labels": template["metadata"]["labels"], "ownerReferences": [owner()]},
                    "spec": {"replicas": replicas, "selector": {"matchLabels": template["metadata"]["labels"]}, "template": template},
                    "status": {"replicas": 0, "observedGeneration": 1}}));
            }
            Action::Update { uid, replicas, annotations, min_ready_seconds, .. } => {
                let set = position(&self.sets, uid);
                let set = &mut self.sets[set];
                let before: i64 = set["spec"]["replicas"].as_i64().unwrap();
                if let Some((from, to)) = replicas {
                    assert_eq!(before, i64::from(*from));
                    set["spec"]["replicas"] = json!(to);
                }
                if let Some(seconds) = min_ready_seconds {
                    set["spec"]["minReadySeconds"] = json!(seconds);
                }
                json_patch::merge(&mut set["metadata"]["annotations"], &json!(annotations));
            }
            Action::Delete { uid, .. } => {
                let set = position(&self.sets, uid);
                assert_eq!(self.sets[set]["status"]["replicas"], json!(0), "a set with pods was deleted");
                self.sets.remove(set);
            }
            Action::SetRevision { revision } => {
                self.deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] =
                    json!(revision.to_string());
            }
            Action::Adopt { uid, .. } => {
                let set = position(&self.sets, uid);
                self.sets[set]["metadata"]["ownerReferences"] = json!([owner()]);
            }
            Action::Release { uid, .. } => {
                let set = position(&self.sets, uid);
                self.sets[set]["metadata"]["ownerReferences"] = Value::Null;
            }
        }
    }

    /// The ReplicaSet controller and the nodes: every set has its pods, and as many are available as `available` says.
    fn run_pods(&mut self, available: impl Fn(usize, i64, i64) -> i64) {
        for (index, set) in self.sets.iter_mut().enumerate() {
            let wanted = set["spec"]["replicas"].as_i64().unwrap();
            let before = set["status"]["availableReplicas"].as_i64().unwrap_or(0);
            let now = available(index, wanted, before).clamp(0, wanted);
            set["status"] = json!({"replicas": wanted, "readyReplicas": now, "availableReplicas": now,
                "observedGeneration": set["metadata"]["generation"]});
        }
    }

    fn sizes(&self) -> Vec<i64> {
        self.sets.iter().map(|set| set["spec"]["replicas"].as_i64().unwrap()).collect()
    }

    fn settle(&mut self) {
        for _ in 0..100 {
            let idle = self.pass().is_empty();
            self.run_pods(|_, wanted, _| wanted);
            if idle && self.plan().actions.is_empty() {
                return;
            }
        }
        panic!("does not settle: {:?}", self.sizes());
    }

    fn condition(&self, kind: &str) -> String {
        let conditions = self.deployment["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.iter().find(|condition| condition["type"] == json!(kind));
        found.map_or_else(
            || "none".to_owned(),
            |c| format!("{} {}", c["status"].as_str().unwrap(), c["reason"].as_str().unwrap()),
        )
    }
}

fn owner() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d-1", "controller": true, "blockOwnerDeletion": true})
}

/// How pods get ready in the grid.
#[derive(Debug, Clone, Copy)]
enum Readiness {
    AtOnce,
    OneAtATime,
    NewNever,
    HalfOfTheOldAreBroken,
}

fn available(readiness: Readiness, is_new: bool, wanted: i64, before: i64) -> i64 {
    match readiness {
        Readiness::AtOnce => wanted,
        Readiness::OneAtATime if is_new => (before + 1).min(wanted),
        Readiness::NewNever if is_new => 0,
        Readiness::HalfOfTheOldAreBroken if is_new => wanted,
        Readiness::HalfOfTheOldAreBroken => before.min(wanted),
        Readiness::OneAtATime | Readiness::NewNever => wanted,
    }
}

#[test]
fn rollouts_take_the_steps_of_kubernetes_over_the_whole_grid() {
    let patterns = [Readiness::AtOnce, Readiness::OneAtATime, Readiness::NewNever, Readiness::HalfOfTheOldAreBroken];
    let mut compared = 0;
    for replicas in 0..=12 {
        for surge in ["0", "1", "2", "5", "25%", "50%", "100%"] {
            for unavailable in ["0", "1", "2", "5", "25%", "50%", "100%"] {
                for readiness in patterns {
                    compared += compare(replicas, surge, unavailable, readiness);
                }
            }
        }
    }
    assert!(compared > 10_000, "only {compared} steps compared");
}

fn compare(replicas: i64, surge: &str, unavailable: &str, readiness: Readiness) -> usize {
    let mut world = World::new(replicas, surge, unavailable);
    world.settle();
    let broken = matches!(readiness, Readiness::HalfOfTheOldAreBroken);
    world.run_pods(|_, wanted, _| if broken { wanted / 2 } else { wanted });
    let healthy = if broken { replicas / 2 } else { replicas };
    let mut model = Model::start(replicas, surge, unavailable, vec![Set { wanted: replicas, available: healthy }]);
    world.image("v2");
    for step in 0..60 {
        let before = world.sizes();
        world.pass();
        model.step();
        let context = format!("replicas {replicas} surge {surge} unavailable {unavailable} {readiness:?} step {step}");
        assert_eq!(world.sizes(), model.sizes(), "{context}");
        world.run_pods(|index, wanted, before| available(readiness, index == 1, wanted, before));
        let sets = model.old.iter_mut().map(|set| (false, set)).chain(model.new.as_mut().map(|set| (true, set)));
        for (is_new, set) in sets {
            set.available = available(readiness, is_new, set.wanted, set.available);
        }
        if world.sizes() == before && step > 15 {
            return step;
        }
    }
    60
}

fn check(world: &mut World, passes: usize, expected: &Expect) {
    let mut text = String::new();
    for _ in 0..passes {
        text += &format!("{}\n", world.pass().join("; "));
        world.run_pods(|_, wanted, _| wanted);
    }
    expected.assert_eq(&text);
}

#[test]
fn a_first_deployment_makes_one_set_of_full_size_and_says_when_it_is_done() {
    let mut world = World::new(3, "25%", "25%");
    check(
        &mut world,
        3,
        &expect![[r#"
        create v1 with 3; set revision 1


    "#]],
    );
    assert_eq!(world.condition("Progressing"), "True NewReplicaSetAvailable");
    assert_eq!(world.condition("Available"), "True MinimumReplicasAvailable");
}

#[test]
fn a_rollout_never_drops_below_nor_rises_above_its_bounds() {
    let mut world = World::new(4, "1", "0");
    world.settle();
    world.image("v2");
    check(
        &mut world,
        9,
        &expect![[r#"
        create v2 with 1; set revision 2
        scale v1 from 4 to 3
        scale v2 from 1 to 2
        scale v1 from 3 to 2
        scale v2 from 2 to 3
        scale v1 from 2 to 1
        scale v2 from 3 to 4
        scale v1 from 1 to 0

    "#]],
    );
}

#[test]
fn the_next_pod_waits_until_the_one_it_replaces_is_gone() {
    let mut world = World::new(4, "1", "1");
    world.settle();
    world.image("v2");
    world.pass();
    world.pass();
    assert_eq!(world.sizes(), [3, 1], "one of v1 is told to go, and is still there");
    world.run_pods(|index, wanted, _| if index == 0 { wanted } else { 0 });
    world.pass();
    assert_eq!(world.sizes(), [3, 2]);
}

#[test]
fn an_undo_makes_the_old_set_current_again_with_a_new_revision() {
    let mut world = World::new(2, "1", "0");
    world.settle();
    world.image("v2");
    world.settle();
    world.image("v1");
    world.settle();
    assert_eq!(world.sizes(), [2, 0]);
    let annotations = world.set_of("v1")["metadata"]["annotations"].clone();
    assert_eq!(annotations["deployment.kubernetes.io/revision"], json!("3"));
    assert_eq!(annotations["deployment.kubernetes.io/revision-history"], json!("1"));
    assert_eq!(world.deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"], json!("3"));
}

#[test]
fn a_newer_template_takes_over_in_the_middle_and_the_unready_go_first() {
    let mut world = World::new(4, "1", "1");
    world.settle();
    world.image("bad");
    for _ in 0..4 {
        world.pass();
        world.run_pods(|index, wanted, _| if index == 0 { wanted } else { 0 });
    }
    assert_eq!(world.sizes(), [3, 2]);
    world.image("good");
    world.pass();
    assert_eq!(world.sizes(), [3, 0, 0], "the broken pods make room at once");
    world.settle();
    assert_eq!(world.sizes(), [0, 0, 4]);
}

#[test]
fn scaling_during_a_rollout_shares_in_proportion() {
    let mut world = World::new(10, "3", "2");
    world.settle();
    world.image("v2");
    for _ in 0..3 {
        world.pass();
        world.run_pods(|index, wanted, _| if index == 0 { wanted } else { 0 });
    }
    assert_eq!(world.sizes(), [8, 5]);
    world.resize(15);
    world.pass();
    assert_eq!(world.sizes(), [11, 7], "the example of the Kubernetes documentation");
}

#[test]
fn a_paused_deployment_scales_and_does_not_roll() {
    let mut world = World::new(3, "1", "0");
    world.settle();
    world.deployment["spec"]["paused"] = json!(true);
    world.image("v2");
    world.resize(5);
    world.settle();
    assert_eq!(world.sizes(), [5]);
    assert_eq!(world.condition("Progressing"), "Unknown DeploymentPaused");
    world.deployment["spec"]["paused"] = json!(false);
    world.settle();
    assert_eq!(world.sizes(), [0, 5]);
}

#[test]
fn a_recreate_waits_until_the_last_old_pod_is_gone() {
    let mut world = World::new(3, "0", "1");
    world.deployment["spec"]["strategy"] = json!({"type": "Recreate"});
    world.settle();
    let old = world.sets[0]["metadata"]["uid"].clone();
    world.pods = vec![json!({"metadata": {"name": "p", "namespace": "shop", "deletionTimestamp": start().to_string(),
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": old, "controller": true}]}})];
    world.image("v2");
    check(
        &mut world,
        3,
        &expect![[r#"
        scale v1 from 3 to 0


    "#]],
    );
    world.pods.clear();
    check(
        &mut world,
        1,
        &expect![[r#"
        create v2 with 3; set revision 2
    "#]],
    );
}

#[test]
fn a_rollout_without_progress_is_declared_so_and_recovers_on_a_better_template() {
    let mut world = World::new(2, "1", "0");
    world.settle();
    world.image("bad");
    for _ in 0..3 {
        world.pass();
        world.run_pods(|index, wanted, _| if index == 0 { wanted } else { 0 });
    }
    let wait = world.plan().requeue_after.unwrap();
    assert!(wait.as_secs() <= 601 && wait.as_secs() > 590, "{wait:?}");
    world.now += SignedDuration::from_secs(700);
    world.pass();
    assert_eq!(world.condition("Progressing"), "False ProgressDeadlineExceeded");
    world.image("good");
    world.settle();
    assert_eq!(world.condition("Progressing"), "True NewReplicaSetAvailable");
}

#[test]
fn history_beyond_the_limit_goes_oldest_first() {
    let mut world = World::new(1, "1", "0");
    for image in ["v1", "v2", "v3", "v4", "v5"] {
        world.image(image);
        world.settle();
    }
    world.settle();
    let revisions: Vec<_> = world
        .sets
        .iter()
        .map(|set| set["metadata"]["annotations"]["deployment.kubernetes.io/revision"].clone())
        .collect();
    assert_eq!(revisions, ["3", "4", "5"]);
}

#[test]
fn a_name_taken_by_another_template_counts_a_collision_and_moves_on() {
    let mut world = World::new(1, "1", "0");
    let deployment: Deployment = serde_json::from_value(world.deployment.clone()).unwrap();
    let name = format!("web-{}", template_hash(&deployment.spec.unwrap().template, 0));
    world.sets.push(json!({"metadata": {"name": name, "namespace": "shop", "uid": "foreign"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"x": "y"}}}}));
    assert_eq!(world.pass(), Vec::<String>::new());
    assert_eq!(world.deployment["status"]["collisionCount"], json!(1));
    assert_eq!(world.plan().actions.len(), 2);
}

#[derive(Debug, Clone)]
enum Step {
    Pass,
    Ready(Vec<i64>),
    Image(u8),
    Resize(i64),
    Pause(bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Pass),
        4 => proptest::collection::vec(0i64..8, 4).prop_map(Step::Ready),
        1 => (0u8..4).prop_map(Step::Image),
        1 => (0i64..10).prop_map(Step::Resize),
        1 => any::<bool>().prop_map(Step::Pause),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_happens_the_bounds_hold_and_the_end_is_the_latest_spec(
        replicas in 0i64..8, surge in 0i64..4, unavailable in 0i64..4, steps in proptest::collection::vec(any_step(), 1..40),
    ) {
        let mut world = World::new(replicas, &surge.to_string(), &unavailable.to_string());
        let sum = |world: &World, field: &str, part: &str| -> i64 {
            world.sets.iter().map(|set| set[part][field].as_i64().unwrap_or(0)).sum()
        };
        for step in steps {
            match step {
                Step::Ready(counts) => world.run_pods(|index, _, _| counts[index % counts.len()]),
                Step::Image(number) => world.image(&format!("v{number}")),
                Step::Resize(replicas) => world.resize(replicas),
                Step::Pause(paused) => world.deployment["spec"]["paused"] = json!(paused),
                Step::Pass => {
                    let before = world.clone();
                    let mut shuffled = world.clone();
                    shuffled.sets.reverse();
                    prop_assert_eq!(shuffled.plan(), world.plan(), "order of the input matters");
                    world.pass();
                    prop_assert_eq!(check_invariants(&world.seen()), vec![]);
                    let wanted = world.deployment["spec"]["replicas"].as_i64().unwrap();
                    let limit = wanted + surge;
                    let (total_before, total) = (sum(&before, "replicas", "spec"), sum(&world, "replicas", "spec"));
                    prop_assert!(total <= limit.max(total_before), "{} pods wanted, at most {}", total, limit);
                    let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
                    // Pods that a set is already giving up are not there to be taken.
                    let dependable = |world: &World| -> i64 {
                        world.sets.iter().map(|set| {
                            let available = set["status"]["availableReplicas"].as_i64().unwrap_or(0);
                            available.min(set["spec"]["replicas"].as_i64().unwrap())
                        }).sum()
                    };
                    let (was, left) = (dependable(&before), dependable(&world));
                    let resized = before.sets.iter().any(|set| {
                        let noted = &set["metadata"]["annotations"]["deployment.kubernetes.io/desired-replicas"];
                        set["spec"]["replicas"] != json!(0) && *noted != json!(wanted.to_string())
                    });
                    prop_assert!(resized || left >= was.min(wanted - unavailable), "available {} of {} after {}", left, wanted, was);
                }
            }
        }
        world.deployment["spec"]["paused"] = json!(false);
        world.settle();
        let wanted = world.deployment["spec"]["replicas"].as_i64().unwrap();
        prop_assert_eq!(sum(&world, "replicas", "spec"), wanted);
        let image = world.deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
        prop_assert_eq!(world.set_of(&image)["spec"]["replicas"].clone(), json!(wanted));
    }
}
