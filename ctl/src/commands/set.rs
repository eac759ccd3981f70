//! `set image`: changes the image of containers in a pod template.

use drover_api::object;
use serde_json::{Value, json};

use crate::{
    cli::Context,
    cluster::{PatchType, Query},
    completion,
    failure::Failure,
    input::select,
};

/// Change a field of an object.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    field: Field,
}

#[derive(Debug, clap::Subcommand)]
enum Field {
    /// Change the image of containers
    #[command(
        after_help = "Examples:\n  droverctl set image deploy/web web=registry/web:2\n  droverctl set image deploy/web '*=web:2'"
    )]
    Image(ImageArgs),
}

#[derive(Debug, clap::Args)]
struct ImageArgs {
    /// KIND/NAME... or KIND NAME, then CONTAINER=IMAGE...
    #[arg(required = true, num_args = 2.., value_name = "OBJECT CONTAINER=IMAGE", add = completion::objects())]
    words: Vec<String>,
    /// Say what would be done
    #[arg(long, value_enum, default_value_t = super::DryRun::None)]
    dry_run: super::DryRun,
}

/// Runs `set`.
pub(crate) async fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let Field::Image(args) = args.field;
    let (images, words): (Vec<String>, Vec<String>) = args.words.into_iter().partition(|word| word.contains('='));
    let images: Vec<(&str, &str)> = images.iter().filter_map(|pair| pair.split_once('=')).collect();
    if images.is_empty() {
        return Err(Failure::new("no image given").help("droverctl set image deploy/web web=registry/web:2").into());
    }
    let cluster = ctx.cluster().await?;
    for one in select(&cluster, &words).await? {
        let name = one.name.as_deref().ok_or_else(|| Failure::new("which object?").help("name it: deploy/web"))?;
        let path = one.resource.object(&cluster.namespace, name);
        let live = cluster.get(&path).await?;
        let label = format!("{}/{name}", one.resource.label());
        let Some(patch) = patch(&live, &images).map_err(|failure| failure.help_unless_any(label.clone()))? else {
            ctx.output.line(format!("{label} has that image already"))?;
            continue;
        };
        let query = Query::new().with_some("dryRun", args.dry_run.parameter());
        cluster.patch(&query.on(&path), PatchType::Strategic, &patch).await?;
        ctx.output.line(format!("{label} image updated{}", args.dry_run.suffix()))?;
    }
    Ok(0)
}

/// The strategic patch that sets images; `None` when they are set already.
fn patch(live: &Value, images: &[(&str, &str)]) -> Result<Option<Value>, Failure> {
    let is_pod = object::str_at(live, &["kind"]) == "Pod";
    let root: &[&str] = if is_pod { &["spec"] } else { &["spec", "template", "spec"] };
    let spec = object::at(live, root).ok_or_else(|| Failure::new("it has no containers"))?;
    let mut changed = json!({});
    for (wanted, image) in images {
        let mut found = false;
        for field in ["initContainers", "containers"] {
            let containers = spec[field].as_array().map(Vec::as_slice).unwrap_or_default();
            for container in containers.iter().filter(|one| *wanted == "*" || one["name"] == *wanted) {
                found = true;
                if container["image"] != *image {
                    let patch = json!({"name": container["name"], "image": image});
                    match changed[field].as_array_mut() {
                        Some(list) => list.push(patch),
                        None => changed[field] = json!([patch]),
                    }
                }
            }
        }
        if !found {
            let names = spec["containers"].as_array().into_iter().flatten().map(|one| object::str_at(one, &["name"]));
            let help = format!("it has: {}", names.collect::<Vec<_>>().join(", "));
            return Err(Failure::new(format!("no container is named \"{wanted}\"")).help(help));
        }
    }
    if changed == json!({}) {
        return Ok(None);
    }
    Ok(Some(if is_pod { json!({"spec": changed}) } else { json!({"spec": {"template": {"spec": changed}}}) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Value {
        json!({"kind": "Deployment", "spec": {"template": {"spec": {
            "initContainers": [{"name": "init", "image": "a:1"}],
            "containers": [{"name": "web", "image": "a:1"}, {"name": "side", "image": "b:1"}]}}}})
    }

    #[test]
    fn only_the_named_container_changes() {
        let patch = patch(&deployment(), &[("web", "a:2")]).unwrap().unwrap();
        assert_eq!(patch, json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "a:2"}]}}}}));
    }

    #[test]
    fn a_star_means_every_container_that_differs() {
        let patch = patch(&deployment(), &[("*", "a:1")]).unwrap().unwrap();
        assert_eq!(patch["spec"]["template"]["spec"], json!({"containers": [{"name": "side", "image": "a:1"}]}));
    }

    #[test]
    fn nothing_to_change_and_unknown_names_are_told_apart() {
        assert_eq!(patch(&deployment(), &[("web", "a:1")]).unwrap(), None);
        assert_eq!(patch(&deployment(), &[("x", "a:1")]).unwrap_err().to_string(), "no container is named \"x\"");
    }
}
