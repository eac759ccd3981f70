//! `lb`: what the load balancer in front of Ingresses is made of.

use std::{collections::BTreeMap, fs, os::unix::fs::OpenOptionsExt as _, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use drover_routing::ingress::{
    Input,
    config::{Settings, files},
    desired,
};
use k8s_openapi::api::core::v1::Secret;
use serde::de::DeserializeOwned;

use crate::{cli::Context, cluster::Cluster};

/// Show what the load balancer in front of Ingresses is made of.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Write the configuration for an HAProxy that you run yourself
    Render(Render),
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Writes haproxy.cfg, its maps and certificates with their keys. Run it again when anything changes, \
    and reload HAProxy.\n\nExample:\n  droverctl lb render haproxy --output /etc/haproxy/drover && haproxy -c -f /etc/haproxy/drover/haproxy.cfg"
)]
struct Render {
    /// In whose language
    #[arg(value_enum)]
    language: Language,
    /// The directory for the files, where HAProxy will find them
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Where HTTP is served
    #[arg(long, default_value_t = 80, value_name = "PORT")]
    http_port: u16,
    /// Where HTTPS is served
    #[arg(long, default_value_t = 443, value_name = "PORT")]
    https_port: u16,
    /// Where its own page and /metrics are, on the loopback address
    #[arg(long, default_value_t = 8404, value_name = "PORT")]
    stats_port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Language {
    Haproxy,
}

const NETWORKING: &str = "/apis/networking.k8s.io/v1";

/// Runs `lb`.
pub(crate) async fn run(args: Args, ctx: &Context) -> anyhow::Result<u8> {
    let What::Render(args) = args.what;
    let Language::Haproxy = args.language;
    let cluster = ctx.cluster().await?;
    let input = read(&cluster).await?;
    fs::create_dir_all(&args.output).with_context(|| format!("cannot make {}", args.output.display()))?;
    let settings = Settings {
        http_port: args.http_port,
        https_port: args.https_port,
        stats_port: args.stats_port,
        dir: args.output.canonicalize()?.display().to_string(),
        user: None,
    };
    let desired = desired(&input);
    for (name, content) in files(&desired, &settings).files {
        let path = args.output.join(name);
        let mut file = fs::OpenOptions::new();
        let file = file.write(true).create(true).truncate(true).mode(0o600).open(&path);
        let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, content.as_bytes()));
        written.with_context(|| format!("cannot write {}", path.display()))?;
        ctx.output.line(path.display().to_string())?;
    }
    for problem in desired.problems {
        let (namespace, name) = problem.ingress;
        ctx.output.note(&format!("Ingress {namespace}/{name}: {}", problem.message));
    }
    Ok(0)
}

async fn read(cluster: &Cluster) -> anyhow::Result<Input> {
    Ok(Input {
        ingresses: list(cluster, &format!("{NETWORKING}/ingresses")).await?,
        classes: list(cluster, &format!("{NETWORKING}/ingressclasses")).await?,
        services: list(cluster, "/api/v1/services").await?,
        slices: list(cluster, "/apis/discovery.k8s.io/v1/endpointslices").await?,
        certificates: certificates(&list(cluster, "/api/v1/secrets?fieldSelector=type=kubernetes.io/tls").await?),
        ..Input::default()
    })
}

async fn list<K: DeserializeOwned>(cluster: &Cluster, path: &str) -> anyhow::Result<Vec<Arc<K>>> {
    let objects = cluster.list(path).await?;
    objects.into_iter().map(|object| Ok(Arc::new(serde_json::from_value(object)?))).collect()
}

/// As they are: HAProxy says what it does not take.
fn certificates(secrets: &[Arc<Secret>]) -> BTreeMap<(String, String), String> {
    let pem = |secret: &Arc<Secret>| {
        let data = secret.data.as_ref()?;
        let text = |key: &str| Some(String::from_utf8_lossy(&data.get(key)?.0).into_owned());
        let key = (secret.metadata.namespace.clone()?, secret.metadata.name.clone()?);
        Some((key, format!("{}\n{}", text("tls.crt")?, text("tls.key")?)))
    };
    secrets.iter().filter_map(pem).collect()
}
