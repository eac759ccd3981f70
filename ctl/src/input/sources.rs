//! Where manifests come from: files, folders, addresses and standard input.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use http_body_util::BodyExt as _;
use kube::client::Body;

use super::yaml::BYTES_MAX;

/// Redirects that a download follows.
const REDIRECTS_MAX: usize = 5;

/// `-f` and what belongs to it.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SourceArgs {
    /// Files, folders, URLs or '-' for standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE", value_hint = clap::ValueHint::AnyPath)]
    pub(crate) filenames: Vec<String>,
    /// Read folders with all folders below them
    #[arg(short = 'R', long, requires = "filenames")]
    pub(crate) recursive: bool,
}

/// One text and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
}

/// Reads everything that `-f` names.
pub(super) async fn read(args: &SourceArgs) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for name in &args.filenames {
        if name == "-" {
            let text = bounded(std::io::stdin().lock()).context("standard input")?;
            sources.push(Source { name: "standard input".to_owned(), text });
        } else if name.starts_with("http://") || name.starts_with("https://") {
            sources.push(Source { name: name.clone(), text: download(name).await.with_context(|| name.clone())? });
        } else {
            read_path(Path::new(name), args.recursive, &mut sources)?;
        }
    }
    Ok(sources)
}

fn read_path(path: &Path, recursive: bool, sources: &mut Vec<Source>) -> anyhow::Result<()> {
    let shown = path.display().to_string();
    let metadata = std::fs::metadata(path).with_context(|| shown.clone())?;
    if !metadata.is_dir() {
        let file = std::fs::File::open(path).with_context(|| shown.clone())?;
        let text = bounded(file).with_context(|| shown.clone())?;
        sources.push(Source { name: shown, text });
        return Ok(());
    }
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| shown.clone())? {
        entries.push(entry.with_context(|| shown.clone())?.path());
    }
    entries.sort();
    for entry in entries {
        let is_folder = entry.is_dir();
        if (is_folder && recursive) || (!is_folder && is_manifest(&entry)) {
            read_path(&entry, recursive, sources)?;
        }
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    path.extension().and_then(|ext| ext.to_str()).is_some_and(|ext| matches!(ext, "yaml" | "yml" | "json"))
}

fn bounded(reader: impl std::io::Read) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(BYTES_MAX).unwrap_or(u64::MAX) + 1;
    reader.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > BYTES_MAX {
        bail!("larger than {BYTES_MAX} bytes");
    }
    String::from_utf8(bytes).context("not UTF-8 text")
}

async fn download(address: &str) -> anyhow::Result<String> {
    let mut address = address.to_owned();
    for _ in 0..=REDIRECTS_MAX {
        let uri: http::Uri = address.parse().context("not a URL")?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { bail!("not a URL") };
        let base: http::Uri = format!("{scheme}://{authority}").parse().context("not a URL")?;
        let client = kube::Client::try_from(kube::Config::new(base.clone()))?;
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let response = client.send(http::Request::get(path).body(Body::empty())?).await?;
        let status = response.status();
        if status.is_redirection()
            && let Some(location) = response.headers().get(http::header::LOCATION)
        {
            let location = location.to_str().context("the redirect is not text")?;
            address = if location.starts_with('/') {
                format!("{scheme}://{authority}{location}")
            } else {
                location.to_owned()
            };
            continue;
        }
        if !status.is_success() {
            bail!("the server answered {status}");
        }
        return text_of(response.into_body()).await;
    }
    bail!("more than {REDIRECTS_MAX} redirects")
}

async fn text_of(mut body: Body) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
        if bytes.len() > BYTES_MAX {
            bail!("larger than {BYTES_MAX} bytes");
        }
    }
    String::from_utf8(bytes).context("not UTF-8 text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path, recursive: bool) -> Vec<String> {
        let mut sources = Vec::new();
        read_path(path, recursive, &mut sources).unwrap();
        sources
            .into_iter()
            .map(|source| Path::new(&source.name).strip_prefix(path).unwrap().display().to_string())
            .collect()
    }

    #[test]
    fn a_folder_gives_its_manifests_in_order_and_those_below_only_on_request() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        for name in ["b.yaml", "a.json", "notes.txt", "sub/c.yml"] {
            std::fs::write(dir.path().join(name), "a: 1").unwrap();
        }
        assert_eq!(names(dir.path(), false), ["a.json", "b.yaml"]);
        assert_eq!(names(dir.path(), true), ["a.json", "b.yaml", "sub/c.yml"]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_path(Path::new("/does/not/exist.yaml"), false, &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "/does/not/exist.yaml");
    }
}
